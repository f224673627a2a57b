//! Tailscale SSH: tailscaled runs logins and commands itself, with no sshd and no socket.

use super::super::commands::tailscale_user;
use super::super::terminals::tailscale;
use super::{Certain, Fake, Tree, only, read};

#[tokio::test]
async fn tailscale_ssh_runs_its_commands_through_su_or_by_itself() {
    let tree = Tree::new();
    let fakes = [
        Fake {
            pid: 600,
            comm: "tailscaled",
            words: &["/usr/sbin/tailscaled", "--state=x"],
            ..Fake::default()
        },
        Fake {
            pid: 610,
            parent: 600,
            comm: "su",
            words: &["su", "-w", "SSH_AUTH_SOCK", "-l", "bob", "-c", "sleep 600"],
            cgroup: "/user.slice/user-1001.slice/session-c2.scope",
            ..Fake::default()
        },
        Fake { pid: 611, parent: 610, comm: "sleep", words: &["sleep", "600"], ..Fake::default() },
        Fake {
            pid: 620,
            parent: 600,
            comm: "tailscaled",
            words: &["/usr/sbin/tailscaled", "be-child", "ssh", "--local-user=bob", "--cmd=make"],
            ..Fake::default()
        },
        Fake { pid: 621, parent: 620, comm: "make", words: &["make"], ..Fake::default() },
        Fake {
            pid: 630,
            parent: 600,
            comm: "tailscaled",
            words: &[
                "/usr/sbin/tailscaled",
                "be-child",
                "ssh",
                "--local-user=bob",
                "--has-tty=true",
                "--tty-name=pts/2",
            ],
            ..Fake::default()
        },
        Fake {
            pid: 640,
            parent: 600,
            comm: "login",
            words: &["login", "-f", "bob"],
            ..Fake::default()
        },
        Fake { pid: 650, parent: 600, comm: "ip", words: &["ip", "rule"], ..Fake::default() },
        Fake {
            pid: 660,
            parent: 600,
            comm: "su",
            words: &[
                "su",
                "-w",
                "SSH_AUTH_SOCK",
                "-l",
                "bob",
                "-c",
                "/usr/sbin/tailscaled be-child sftp",
            ],
            ..Fake::default()
        },
    ];
    fakes.into_iter().for_each(|fake| tree.process(fake));
    let config = only(|on| on.commands = true);
    let commands = read(&mut tree.sensors(), &config).await.commands.known();
    assert_eq!(
        commands.iter().map(|one| (one.pid, one.what.as_str(), one.by_bytes)).collect::<Vec<_>>(),
        [
            (610, "sleep 600 (bob, Tailscale SSH)", false),
            (620, "make (bob, Tailscale SSH)", false),
            (660, "sftp (bob, Tailscale SSH)", true),
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
    assert_eq!(told(&["login", "--", "bob"]), "Tailscale SSH bob");
    assert_eq!(told(&["login", "-f", "bob", "-h", "h", "-p"]), "Tailscale SSH bob from h");
    assert_eq!(told(&["tailscaled", "be-child", "ssh"]), "Tailscale SSH");
    assert_eq!(told(&[]), "Tailscale SSH");
}
