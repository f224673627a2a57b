//! CPU time of units, and builds.

use super::super::builds::is_build;
use super::super::{Build, CpuTotals, Sensors};
use super::{Certain, Fake, Tree, only, read, without};

const ID: &str = "3f1c0a9be2d74c6f8a5b4e3d2c1f0a9be2d74c6f8a5b4e3d2c1f0a9be2d74c6f";

async fn cpu(tree: &Tree) -> CpuTotals {
    let mut cpu = read(&mut tree.sensors(), &only(|on| on.cpu = true)).await.cpu.known();
    cpu.units.sort();
    cpu
}

async fn builds(sensors: &mut Sensors) -> Vec<Build> {
    let mut builds = read(sensors, &only(|on| on.builds = true)).await.builds.known();
    builds.sort_by(|a, b| a.id.cmp(&b.id));
    builds
}

/// Units are what lies directly below a slice; what they hold themselves is in their time.
#[tokio::test]
async fn units_of_a_box_as_debian_lays_it_out() {
    let tree = Tree::new();
    for (path, usage) in [
        ("init.scope", 5),
        ("system.slice", 100),
        ("system.slice/ssh.service", 10),
        ("system.slice/docker.service", 60),
        ("system.slice/docker.service/nested", 50),
        (&format!("system.slice/docker-{ID}.scope"), 7),
        ("system.slice/system.slice:docker:abcdefghijklmnopqrstuvwxy", 8),
        ("system.slice/system-getty.slice", 3),
        ("system.slice/system-getty.slice/getty@tty1.service", 2),
        ("user.slice", 40),
        ("user.slice/user-1000.slice", 39),
        ("user.slice/user-1000.slice/session-3.scope", 30),
        ("user.slice/user-1000.slice/user@1000.service", 9),
        ("user.slice/user-1000.slice/user@1000.service/app.slice", 8),
        ("user.slice/user-1000.slice/user@1000.service/app.slice/a.service", 7),
    ] {
        tree.cgroup(path, usage);
    }
    let cpu = cpu(&tree).await;
    let expected: [(&str, u64); 8] = [
        ("init.scope", 5),
        (&format!("system.slice/docker-{ID}.scope"), 7),
        ("system.slice/docker.service", 60),
        ("system.slice/ssh.service", 10),
        ("system.slice/system-getty.slice/getty@tty1.service", 2),
        ("system.slice/system.slice:docker:abcdefghijklmnopqrstuvwxy", 8),
        ("user.slice/user-1000.slice/session-3.scope", 30),
        ("user.slice/user-1000.slice/user@1000.service", 9),
    ];
    assert_eq!(cpu.units, expected.map(|(path, usage)| (path.to_owned(), usage)));
    assert_eq!(cpu.total, 145);
    assert_eq!(cpu.steal, 420_000);
}

#[tokio::test]
async fn on_a_hybrid_box_cgroup_v2_is_below_unified() {
    let tree = Tree::new();
    std::fs::remove_file(tree.path("sys/fs/cgroup/cgroup.controllers")).unwrap();
    tree.file("sys/fs/cgroup/unified/cgroup.controllers", "");
    tree.cgroup("unified/system.slice", 9);
    tree.cgroup("unified/system.slice/a.service", 4);
    tree.cgroup("cpu/system.slice", 1000);
    assert_eq!(cpu(&tree).await.units, [("system.slice/a.service".to_owned(), 4)]);
}

#[tokio::test]
async fn a_box_without_cgroup_v2_is_unknown_with_the_remedy() {
    let tree = Tree::new();
    std::fs::remove_file(tree.path("sys/fs/cgroup/cgroup.controllers")).unwrap();
    let why = read(&mut tree.sensors(), &only(|on| on.cpu = true)).await.cpu.unknown();
    assert_eq!(
        without(tree.folder.path(), &why),
        "no cgroup v2 at /sys/fs/cgroup: boot with systemd.unified_cgroup_hierarchy=1"
    );
}

/// As in a cgroup namespace of the daemon's own, where its cgroup is the root.
#[tokio::test]
async fn a_root_without_any_cgroup_is_no_quiet_box() {
    let tree = Tree::new();
    std::fs::remove_dir_all(tree.path("sys/fs/cgroup")).unwrap();
    tree.file("sys/fs/cgroup/cgroup.controllers", "cpu io\n");
    tree.file("sys/fs/cgroup/cgroup.events", "populated 1\nfrozen 0\n");
    tree.file("sys/fs/cgroup/cpu.stat", "usage_usec 4711\n");
    for kind in [only(|on| on.cpu = true), only(|on| on.builds = true)] {
        let evidence = read(&mut tree.sensors(), &kind).await;
        let why =
            if kind.evidence.cpu { evidence.cpu.unknown() } else { evidence.builds.unknown() };
        assert_eq!(
            without(tree.folder.path(), &why),
            "nothing but this daemon in /sys/fs/cgroup: is ProtectControlGroups=strict set in the unit?"
        );
    }
}

/// The folder is there, its files are not: it went between readdir and open.
#[tokio::test]
async fn a_cgroup_that_vanishes_is_left_out_and_one_that_is_garbled_is_not() {
    let tree = Tree::new();
    tree.cgroup("system.slice", 100);
    tree.cgroup("system.slice/a.service", 4);
    std::fs::create_dir(tree.path("sys/fs/cgroup/system.slice/gone.service")).unwrap();
    assert_eq!(cpu(&tree).await.units, [("system.slice/a.service".to_owned(), 4)]);
    tree.file("sys/fs/cgroup/system.slice/a.service/cpu.stat", "usage_usec many\n");
    let why = read(&mut tree.sensors(), &only(|on| on.cpu = true)).await.cpu.unknown();
    assert_eq!(
        why,
        r#"system.slice/a.service/cpu.stat is not in the known form, at: "usage_usec many""#
    );
}

#[tokio::test]
async fn build_steps_of_every_driver() {
    let tree = Tree::new();
    for path in [
        "system.slice/system.slice:docker:abcdefghijklmnopqrstuvwxy".to_owned(),
        "docker/buildkit/bcdefghijklmnopqrstuvwxyz".to_owned(),
        "buildkit/cdefghijklmnopqrstuvwxyza".to_owned(),
        format!("system.slice/docker-{ID}.scope/buildkit/defghijklmnopqrstuvwxyzab"),
        format!("system.slice/docker-{ID}.scope/docker/buildkit/efghijklmnopqrstuvwxyzabc"),
        // No builds: a container's own folders, and one that merely runs.
        format!("system.slice/docker-{ID}.scope/init"),
        "system.slice/docker.service".to_owned(),
        format!("docker/{ID}"),
    ] {
        tree.cgroup(&path, 0);
    }
    let builds = builds(&mut tree.sensors()).await;
    let whats: Vec<_> = builds.iter().map(|build| build.what.as_str()).collect();
    assert_eq!(
        whats,
        [
            "build step cdefghijklmn…",
            "build step bcdefghijklm…",
            "build step defghijklmno…",
            "build step efghijklmnop…",
            "build step abcdefghijkl…",
        ]
    );
    assert_eq!(builds[4].id, "system.slice/system.slice:docker:abcdefghijklmnopqrstuvwxy");
}

/// BuildKit was killed in mid-build: nobody is left to remove its steps' cgroups.
#[tokio::test]
async fn an_empty_step_that_was_left_behind_is_no_build() {
    let tree = Tree::new();
    let steps = [
        "system.slice/system.slice:docker:abcdefghijklmnopqrstuvwxy".to_owned(),
        "buildkit/cdefghijklmnopqrstuvwxyza".to_owned(),
        format!("system.slice/docker-{ID}.scope/docker/buildkit/efghijklmnopqrstuvwxyzabc"),
    ];
    for path in &steps {
        tree.cgroup(path, 0);
        tree.populated(path, false);
    }
    assert_eq!(builds(&mut tree.sensors()).await, []);
    for path in &steps {
        tree.populated(path, true);
        assert_eq!(builds(&mut tree.sensors()).await.len(), 1, "{path}");
        // One that goes between the listing and the look is none either.
        std::fs::remove_file(tree.path(&format!("sys/fs/cgroup/{path}/cgroup.events"))).unwrap();
        assert_eq!(builds(&mut tree.sensors()).await, []);
    }
    for path in &steps {
        tree.file(&format!("sys/fs/cgroup/{path}/cgroup.events"), "frozen 0\n");
        let why = read(&mut tree.sensors(), &only(|on| on.builds = true)).await.builds.unknown();
        let file = format!("/sys/fs/cgroup/{path}/cgroup.events");
        let expected = format!("{file} is not in the known form, at: \"frozen 0\"");
        assert_eq!(
            without(tree.folder.path(), &why),
            expected.trim_start_matches("/sys/fs/cgroup/")
        );
        tree.populated(path, false);
    }
}

/// `docker build` runs a plugin below itself; together they are one build.
#[tokio::test]
async fn build_commands_once_each_as_long_as_they_live() {
    let tree = Tree::new();
    let fakes = [
        Fake {
            pid: 30,
            comm: "docker",
            words: &["docker", "build", "-t", "x", "."],
            start: 77,
            ..Fake::default()
        },
        Fake {
            pid: 31,
            parent: 30,
            comm: "docker-buildx",
            words: &["/usr/libexec/docker/cli-plugins/docker-buildx", "buildx", "build", "."],
            ..Fake::default()
        },
        Fake {
            pid: 40,
            comm: "docker",
            words: &["docker", "run", "-it", "build", "build"],
            ..Fake::default()
        },
        Fake {
            pid: 41,
            comm: "docker",
            words: &["docker", "system", "dial-stdio"],
            ..Fake::default()
        },
        Fake { pid: 42, comm: "make", words: &["make", "build"], ..Fake::default() },
        Fake {
            pid: 43,
            comm: "buildctl",
            words: &["buildctl", "--addr", "tcp://b:1234", "build"],
            ..Fake::default()
        },
    ];
    fakes.into_iter().for_each(|fake| tree.process(fake));
    let mut sensors = tree.sensors();
    let found = builds(&mut sensors).await;
    let found: Vec<_> =
        found.iter().map(|build| (build.id.as_str(), build.what.as_str())).collect();
    assert_eq!(
        found,
        [("30:77", "docker build -t x ."), ("43:100", "buildctl --addr tcp://b:1234 build")]
    );
    tree.end(30);
    tree.end(31);
    assert_eq!(builds(&mut sensors).await.len(), 1);
}

#[test]
fn what_asks_for_a_build_and_what_does_not() {
    for (words, expected) in [
        ("docker build .", true),
        ("docker -H ssh://box build .", true),
        ("docker --host=ssh://box --debug build .", true),
        ("docker --context box buildx build --push .", true),
        ("docker buildx --builder b bake", true),
        ("docker image build .", true),
        ("docker builder build .", true),
        ("docker compose -f c.yml --profile dev build", true),
        ("docker-compose -p x build", true),
        ("docker-buildx build .", true),
        ("podman --log-level debug build .", true),
        ("nerdctl -n k8s.io build .", true),
        ("buildctl build --frontend dockerfile.v0", true),
        ("docker run build", false),
        ("docker ps", false),
        ("docker compose up build", false),
        ("docker builder prune", false),
        ("docker buildx ls", false),
        ("docker -H", false),
        ("docker", false),
        ("", false),
    ] {
        let split: Vec<_> = words.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        assert_eq!(is_build(&split), expected, "{words}");
    }
}
