//! Remote commands without a terminal.

use service::clock::Boottime;

use super::super::commands::line;
use super::super::{RemoteCommand, Sensors};
use super::{Certain, Fake, Tree, only, read};

const SCOPE: &str = "/user.slice/user-1000.slice/session-3.scope";

async fn commands(sensors: &mut Sensors) -> Vec<RemoteCommand> {
    read(sensors, &only(|on| on.commands = true)).await.commands.known()
}

fn whats(commands: &[RemoteCommand]) -> Vec<(u32, &str, bool)> {
    commands.iter().map(|one| (one.pid, one.what.as_str(), one.by_bytes)).collect()
}

/// sshd with its guard, one connection without a terminal, and what runs below it.
fn connection(tree: &Tree, comm: &str, title: &str) {
    let prefix = title.split(':').next().unwrap();
    tree.process(Fake {
        pid: 500,
        comm: "sshd",
        words: &["sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"],
        ..Fake::default()
    });
    tree.process(Fake {
        pid: 700,
        parent: 500,
        comm,
        words: &[&format!("{prefix}: alice [priv]")],
        ..Fake::default()
    });
    tree.process(Fake {
        pid: 710,
        parent: 700,
        comm,
        words: &[title],
        cgroup: SCOPE,
        ..Fake::default()
    });
}

#[tokio::test]
async fn a_command_below_notty_on_both_debians() {
    for (comm, title) in
        [("sshd", "sshd: alice@notty"), ("sshd-session", "sshd-session: alice@notty")]
    {
        let tree = Tree::new();
        connection(&tree, comm, title);
        tree.process(Fake {
            pid: 711,
            parent: 710,
            comm: "sleep",
            words: &["sleep", "600"],
            start: 4321,
            cgroup: SCOPE,
            ..Fake::default()
        });
        let commands = commands(&mut tree.sensors()).await;
        assert_eq!(whats(&commands), [(711, "sleep 600 (alice, ssh)", false)]);
        assert_eq!(commands[0].since, Boottime::from_millis(43_210));
        assert_eq!(commands[0].host, None);
    }
}

/// After the client dies sshd goes, and the command becomes a child of pid 1 in the same scope.
#[tokio::test]
async fn what_outlives_its_connection_is_no_command() {
    let tree = Tree::new();
    tree.process(Fake {
        pid: 711,
        parent: 1,
        comm: "sleep",
        words: &["sleep", "600"],
        cgroup: SCOPE,
        ..Fake::default()
    });
    assert!(commands(&mut tree.sensors()).await.is_empty());
}

#[tokio::test]
async fn a_forward_has_no_command_and_a_shell_with_a_terminal_is_none() {
    let tree = Tree::new();
    connection(&tree, "sshd", "sshd: alice");
    tree.process(Fake {
        pid: 720,
        parent: 500,
        comm: "sshd",
        words: &["sshd: alice@pts/0"],
        ..Fake::default()
    });
    tree.process(Fake {
        pid: 721,
        parent: 720,
        comm: "bash",
        words: &["-bash"],
        terminal: 34816,
        ..Fake::default()
    });
    tree.process(Fake { pid: 722, parent: 721, comm: "make", words: &["make"], ..Fake::default() });
    assert!(commands(&mut tree.sensors()).await.is_empty());
}

/// ControlMaster: one connection with a shell on pts/0 and a command beside it.
#[tokio::test]
async fn a_shared_connection_has_both() {
    let tree = Tree::new();
    connection(&tree, "sshd", "sshd: alice@pts/0");
    tree.process(Fake { pid: 711, parent: 710, comm: "bash", terminal: 34816, ..Fake::default() });
    tree.process(Fake {
        pid: 712,
        parent: 710,
        comm: "bash",
        words: &["bash", "-c", "make -j8 && make install"],
        ..Fake::default()
    });
    let commands = commands(&mut tree.sensors()).await;
    assert_eq!(whats(&commands), [(712, "make -j8 && make install (alice, ssh)", false)]);
}

#[tokio::test]
async fn sftp_of_both_kinds_counts_by_its_bytes_and_docker_does_not() {
    let tree = Tree::new();
    connection(&tree, "sshd", "sshd: alice@notty");
    let below = |pid: u32, comm: &str, words: &[&str]| {
        tree.process(Fake { pid, parent: 710, comm, words, ..Fake::default() })
    };
    below(711, "sftp-server", &["/usr/lib/openssh/sftp-server"]);
    below(712, "fish", &["fish", "-c", "/usr/lib/openssh/sftp-server"]);
    below(713, "sshd", &["sshd: alice@internal-sftp"]);
    below(714, "docker", &["docker", "system", "dial-stdio"]);
    // On its way from fork to exec.
    below(715, "sshd", &["sshd: alice@notty"]);
    let commands = commands(&mut tree.sensors()).await;
    assert_eq!(
        whats(&commands),
        [
            (711, "sftp (alice, ssh)", true),
            (712, "sftp (alice, ssh)", true),
            (713, "sftp (alice, ssh)", true),
            (714, "docker system dial-stdio (alice, ssh)", false),
        ]
    );
}

/// An IDE's command is a shell; its server shows up below it, ticks later.
#[tokio::test]
async fn an_ide_is_known_by_a_descendant_and_stays_one() {
    let tree = Tree::new();
    connection(&tree, "sshd", "sshd: alice@notty");
    tree.process(Fake { pid: 711, parent: 710, comm: "bash", words: &["bash"], ..Fake::default() });
    tree.process(Fake { pid: 712, parent: 711, comm: "sh", words: &["sh"], ..Fake::default() });
    let mut sensors = tree.sensors();
    assert_eq!(whats(&commands(&mut sensors).await), [(711, "bash (alice, ssh)", false)]);
    tree.process(Fake {
        pid: 713,
        parent: 712,
        comm: "node",
        words: &["/home/alice/.vscode-server/cli/servers/x/node"],
        ..Fake::default()
    });
    assert_eq!(whats(&commands(&mut sensors).await), [(711, "bash (alice, ssh)", true)]);
    // Detached, it is pid 1's; the connection still is the IDE's.
    tree.end(712);
    tree.end(713);
    assert_eq!(whats(&commands(&mut sensors).await), [(711, "bash (alice, ssh)", true)]);
    // Another config has other marks.
    let mut config = only(|on| on.commands = true);
    config.commands.ide_servers.clear();
    let commands = read(&mut sensors, &config).await.commands.known();
    assert_eq!(whats(&commands), [(711, "bash (alice, ssh)", false)]);
}

/// The mark must be in the path of what runs, not in what it is told.
#[tokio::test]
async fn a_command_that_only_names_an_ide_is_a_command() {
    for (words, by_bytes) in [
        (&["/home/alice/.vscode-server/cli/servers/x/node", "--type=ptyHost"][..], true),
        (&["node", "/home/alice/.vscode-server/out/server-main.js", "--start-server"], true),
        (&["/bin/bash", "/home/alice/.cache/remote-dev-server/bin/remote-dev-server.sh"], true),
        (&["sh", "/home/alice/.cursor-server/bin/x/bin/cursor-server"], true),
        (&["/usr/lib/code-server/lib/node"], true),
        (&["grep", "-r", ".vscode-server", "."], false),
        (&["grep", ".vscode-server/x", "notes"], false),
        (&["rm", "/home/alice/.vscode-server/data"], false),
        (&["bash", "-c", "tar -c /home/alice/.vscode-server"], false),
        (&["node", "build.js", "/home/alice/.vscode-server/x"], false),
        (&["python3", "-m/code-server", "x"], false),
        (&["make", "-C", "/home/alice/src/code-server"], false),
    ] {
        let tree = Tree::new();
        connection(&tree, "sshd", "sshd: alice@notty");
        tree.process(Fake { pid: 711, parent: 710, comm: "x", words, ..Fake::default() });
        let commands = commands(&mut tree.sensors()).await;
        assert_eq!(commands.len(), 1);
        assert_eq!(commands[0].by_bytes, by_bytes, "{words:?}");
    }
}

/// sshd's title says `[priv]` at first; it is read again until it is a session's.
#[tokio::test]
async fn a_root_login_becomes_a_session_in_the_same_process() {
    let tree = Tree::new();
    let mut sensors = tree.sensors();
    let sshd = Fake { pid: 700, comm: "sshd", words: &["sshd: root [priv]"], ..Fake::default() };
    tree.process(sshd);
    tree.process(Fake { pid: 701, parent: 700, comm: "make", words: &["make"], ..Fake::default() });
    assert!(commands(&mut sensors).await.is_empty());
    tree.process(Fake { words: &["sshd: root@notty"], ..sshd });
    assert_eq!(whats(&commands(&mut sensors).await), [(701, "make (root, ssh)", false)]);
    // Its number is given to another's.
    tree.process(Fake { words: &["sshd: [accepted]"], start: 200, ..sshd });
    assert!(commands(&mut sensors).await.is_empty());
}

#[tokio::test]
async fn more_commands_than_can_be_listed_are_unknown() {
    let tree = Tree::new();
    connection(&tree, "sshd", "sshd: alice@notty");
    for pid in 1000..2025 {
        tree.process(Fake { pid, parent: 710, comm: "cat", words: &["cat"], ..Fake::default() });
    }
    let config = only(|on| on.commands = true);
    let why = read(&mut tree.sensors(), &config).await.commands.unknown();
    assert_eq!(why, "there are more than 1024 remote commands, too many to watch");
}

#[test]
fn a_command_line_is_cut_and_its_control_characters_are_gone() {
    let words = vec![b"echo".to_vec(), b"\x1b[2Jboo\nboo".to_vec(), vec![b'x'; 4000]];
    let text = line(&words).text;
    assert!(text.starts_with("echo  [2Jboo boo xxx"), "{text}");
    assert_eq!(text.chars().count(), 81);
    assert!(text.ends_with('…'));
}
