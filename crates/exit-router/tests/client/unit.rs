//! Kind `unit`: an interface that somebody else makes.

use crate::world::World;

#[test]
#[ignore = "needs root for network namespaces: tests/run runs it as root"]
fn it_waits_for_an_address_and_ends_with_the_interface() {
    let world =
        World::new("kind = \"unit\"\ninterface = \"ppp0\"\nprobe = { tcp = \"10.40.0.1:443\" }\n");
    let mut client = world.start();
    world.sh("ip link add ppp0 type bridge && ip link set ppp0 up");
    assert!(!client.is_ready());
    world.sh("ip address add 10.40.0.2/32 dev ppp0");
    client.ready();
    assert!(world.sh("ip -o link show group 5310").contains("ppp0"));
    world.sh("ip link delete ppp0");
    assert_eq!(client.ended().code(), Some(1));
    assert!(client.said().contains("ppp0 is gone"), "{}", client.said());
}
