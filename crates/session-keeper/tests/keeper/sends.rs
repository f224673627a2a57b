//! Text that the keeper gives to agents by itself or for a person: once, and at nobody's cost.

use serde_json::json;

use crate::world::{World, number, text, until};

#[test]
fn a_pane_that_dies_amid_a_prompt_takes_nothing_along() {
    let mut world = World::started();
    world.told("shop/other", "kelp");
    let other = world.session("shop/other");
    let id = world.told("shop/fix", "reef");
    let pid = number(&world.session("shop/fix"), "pid");
    world.kill_keeper();
    // tmux 3.3a dies of a paste into a dead pane, and all agents with it.
    let dies = format!(
        "case $* in *'send-keys -t '*' -l '*) kill -KILL {pid} 2>/dev/null && \
         until PATH=/usr/bin:/bin tmux -N display-message -p -t \"$5\" '#{{pane_dead}}' | \
         grep -q 1; do :; done ;; esac"
    );
    world.in_the_way(&dies);
    world.start_keeper();
    world.until_state("shop/fix", "idle");
    let refused = world.call("Send", json!({"name": "shop/fix", "text": "walnut"})).unwrap_err();
    assert!(refused.contains("NotReady") && refused.contains("it has ended"), "{refused}");
    until("a second start", || number(&world.session("shop/fix"), "starts") == 2);
    assert_eq!(text(&world.until_state("shop/fix", "idle"), "conversation"), id);
    let now = world.session("shop/other");
    let same = |key: &str| assert_eq!(now.get(key), other.get(key), "{now}");
    ["pid", "starts", "pane", "conversation"].into_iter().for_each(same);
}
