//! Tailscale SSH: tailscaled runs logins and commands itself, with no sshd and no socket.

use super::super::commands::tailscale_user;
use super::super::terminals::tailscale;
use super::{Certain, Fake, Tree, only, read};

const SU: [&str; 5] = ["/usr/bin/su", "-w", "SSH_AUTH_SOCK", "-l", "bob"];

/// How tailscaled 1.102 starts itself where there is neither su nor login; some flags left out.
const BE_CHILD: [&str; 9] = [
    "/usr/sbin/tailscaled",
    "be-child",
    "ssh",
    "--login-shell=/bin/bash",
    "--uid=1000",
    "--groups=1000,27,102",
    "--local-user=bob",
    "--remote-user=bob@example.com",
    "--remote-ip=100.64.0.1",
];

/// The tree of tailscaled 1.102 on Debian 13, one session of each kind.
#[tokio::test]
async fn tailscale_ssh_runs_its_commands_through_su_or_by_itself() {
    let tree = Tree::new();
    let daemon = Fake {
        pid: 600,
        comm: "tailscaled",
        words: &["/usr/sbin/tailscaled", "--state=x"],
        ..Fake::default()
    };
    tree.process(daemon);
    let child = |pid: u32, comm: &str, terminal: u32, words: &[&str], more: &[&str]| {
        let words = &[words, more].concat();
        tree.process(Fake { pid, parent: 600, comm, terminal, words, ..Fake::default() });
    };
    let below = |pid: u32, parent: u32, comm: &str, words: &[&str]| {
        tree.process(Fake { pid, parent, comm, words, ..Fake::default() });
    };
    child(610, "su", 0, &SU, &["-c", "sleep 600"]);
    below(611, 610, "sleep", &["sleep", "600"]);
    child(612, "su", 0, &SU, &[]);
    below(613, 612, "bash", &["-bash"]);
    child(614, "su", 0, &SU, &["-c", "/usr/sbin/tailscaled be-child sftp"]);
    below(615, 614, "tailscaled", &["/usr/sbin/tailscaled", "be-child", "sftp"]);
    let piped = ["--has-tty=false", "--tty-name="];
    child(620, "tailscaled", 0, &BE_CHILD, &[&piped[..], &["--cmd=make"]].concat());
    below(621, 620, "make", &["make"]);
    child(622, "tailscaled", 0, &BE_CHILD, &[&piped[..], &["--shell"]].concat());
    below(623, 622, "bash", &["/bin/bash", "-l"]);
    let sftp = ["--sftp", "--cmd=/usr/sbin/tailscaled be-child sftp"];
    child(624, "tailscaled", 0, &BE_CHILD, &[&piped[..], &sftp].concat());

    // With a terminal they are the terminal's. `login` itself has none: it gives it to its shell.
    child(630, "login", 0, &["login", "--", "bob"], &[]);
    child(631, "su", 34817, &SU, &["-c", "sleep 600"]);
    below(632, 631, "sleep", &["sleep", "600"]);
    let terminal = ["--has-tty=true", "--tty-name=pts/2", "--cmd=sleep 600"];
    child(633, "tailscaled", 34818, &BE_CHILD, &terminal);
    // tailscaled's own work.
    child(640, "ip", 0, &["ip", "rule"], &[]);

    let config = only(|on| on.commands = true);
    let commands = read(&mut tree.sensors(), &config).await.commands.known();
    assert_eq!(
        commands.iter().map(|one| (one.pid, one.what.as_str(), one.by_bytes)).collect::<Vec<_>>(),
        [
            (610, "sleep 600 (bob, Tailscale SSH)", false),
            (612, "shell (bob, Tailscale SSH)", false),
            (614, "sftp (bob, Tailscale SSH)", true),
            (620, "make (bob, Tailscale SSH)", false),
            (622, "shell (bob, Tailscale SSH)", false),
            (624, "sftp (bob, Tailscale SSH)", true),
        ]
    );
}

#[test]
fn only_su_and_be_child_are_tailscales_commands() {
    let user = |words: &[&str]| {
        tailscale_user(&words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>())
    };
    assert_eq!(user(&["/usr/bin/su", "-l", "bob", "-c", "x"]).as_deref(), Some("bob"));
    assert_eq!(user(&["su", "-c", "x"]), None);
    assert_eq!(user(&["tailscaled"]), None);
    assert_eq!(user(&["tailscaled", "be-child", "ssh", "--has-tty", "--local-user=b"]), None);
    assert_eq!(
        user(&["tailscaled", "be-child", "ssh", "--has-tty=false", "--local-user=b"]).as_deref(),
        Some("b")
    );
    assert_eq!(user(&[]), None);
}

#[test]
fn tailscales_login_names_its_user_and_host_where_it_does() {
    let told = |words: &[&str]| {
        tailscale(&words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>())
    };
    assert_eq!(told(&["login", "-f", "-h", "100.64.0.2"]), "Tailscale SSH from 100.64.0.2");
    assert_eq!(told(&["login", "-f", "", "", "", "-h", "h", "-p"]), "Tailscale SSH from h");
    assert_eq!(told(&["login -- bob", "", ""]), "Tailscale SSH bob");
    assert_eq!(told(&[&SU[..], &["-c", "ls -l x"]].concat()), "Tailscale SSH bob");
    assert_eq!(told(&BE_CHILD), "Tailscale SSH bob from 100.64.0.1");
    assert_eq!(told(&["login", "-f", "bob", "-h", "h", "-p"]), "Tailscale SSH bob from h");
    assert_eq!(told(&["tailscaled", "be-child", "ssh"]), "Tailscale SSH");
    assert_eq!(told(&[]), "Tailscale SSH");
}
