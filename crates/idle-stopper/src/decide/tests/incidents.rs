//! What has gone wrong for users of other tools, each as a scene. The links are to the reports.

use super::world::{HOUR, MINUTE, World, known, usec};
use crate::sense::{Reading, RemoteCommand};

enum End {
    StaysUp,
    Stops,
}

struct Incident {
    link: &'static str,
    what: &'static str,
    scene: fn(&mut World),
    end: End,
}

/// Each scene begins on a settled, quiet box with the defaults and lasts for hours.
const INCIDENTS: [Incident; 18] = [
    Incident {
        link: "https://github.com/loft-sh/devpod/issues/795",
        what: "stopped while a long build worked, with the editor closed",
        scene: |world| {
            world.pass(5 * HOUR, |world, span| {
                world.burn("user.slice/user-1000.slice/user@1000.service", usec(0.9, span));
            });
        },
        end: End::StaysUp,
    },
    Incident {
        link: "https://github.com/coder/coder/issues/3191",
        what: "an ssh command without a terminal was cut by the schedule",
        scene: |world| {
            world.command("rsync -a src dst", false);
            world.wait(5 * HOUR);
        },
        end: End::StaysUp,
    },
    Incident {
        link: "https://github.com/aws-samples/cloud9-to-power-vscode-blog/issues/3",
        what: "the editor's server changed its path and was no longer recognized",
        scene: |world| {
            // Not known as a server it is a command like any other, busy or not.
            world.command("/home/alice/.brand-new-editor/server", false);
            world.wait(5 * HOUR);
            // Known as one, its bytes are seen.
            known(&mut world.evidence.commands).clear();
            world.command("/home/alice/.brand-new-editor/server", true);
            world.connect(7, 22);
            world.pass(5 * HOUR, |world, span| {
                world.flow(span.as_secs() * 900, span.as_secs() * 2_000)
            });
        },
        end: End::StaysUp,
    },
    Incident {
        link: "https://github.com/aws/res/issues/176",
        what: "one full core of sixteen was 6 % and counted as idle",
        scene: |world| {
            world.pass(5 * HOUR, |world, span| {
                world.burn("user.slice/user-1000.slice/session-4.scope", usec(1.0, span));
            });
        },
        end: End::StaysUp,
    },
    Incident {
        link: "https://github.com/aws-samples/amazon-sagemaker-notebook-instance-lifecycle-config-samples/issues/90",
        what: "a terminal in use was ignored because no notebook was open",
        scene: |world| {
            world.open_terminal("pts/0", 9, "ssh alice");
            world.pass(5 * HOUR, |world, _| world.press_key());
        },
        end: End::StaysUp,
    },
    Incident {
        link: "https://github.com/eclipse-che/che/issues/23529",
        what: "a long command in a terminal nobody types into",
        scene: |world| {
            world.open_terminal("pts/0", 9, "ssh alice");
            world.pass(5 * HOUR, |world, span| {
                world.burn("user.slice/user-1000.slice/session-4.scope", usec(0.2, span));
            });
        },
        end: End::StaysUp,
    },
    Incident {
        link: "https://github.com/mrmekon/circadian/issues/26",
        what: "a probe failed, and failing was taken for the longest idleness",
        scene: |world| {
            world.evidence.terminals = Reading::Unknown("EPERM".to_owned());
            world.wait(HOUR);
        },
        end: End::StaysUp,
    },
    Incident {
        link: "https://github.com/github-aws-runners/terraform-aws-github-runner/issues/3573",
        what: "one idle sample at the wrong instant ended a running job",
        scene: |world| {
            // Ten minutes of work, ten of waiting, for hours: no single sample decides.
            for _ in 0..15 {
                world.pass(10 * MINUTE, |world, span| {
                    world.burn("system.slice/runner.service", usec(1.0, span));
                });
                world.wait(10 * MINUTE);
            }
        },
        end: End::StaysUp,
    },
    Incident {
        link: "https://github.com/loft-sh/devpod/issues/1649",
        what: "an ssh process that merely lives touched the activity file each minute",
        scene: |world| {
            world.open_terminal("pts/0", 9, "ssh alice");
            world.connect(7, 22);
            world.wait(5 * HOUR);
        },
        end: End::Stops,
    },
    Incident {
        link: "https://github.com/coder/vscode-coder/issues/253",
        what: "an idle editor's heartbeat kept the box up for days",
        scene: |world| {
            world.command("sh .vscode-server/cli/server", true);
            world.connect(7, 22);
            world
                .pass(5 * HOUR, |world, span| world.flow(span.as_secs() * 44, span.as_secs() * 44));
        },
        end: End::Stops,
    },
    Incident {
        link: "https://github.com/verily-src/workbench-app-devcontainers/pull/465",
        what: "the load of sidecar containers and agents was taken for work",
        scene: |world| {
            world.pass(5 * HOUR, |world, span| {
                world.burn("system.slice/docker-fluentd.scope", usec(0.02, span));
                world.burn("system.slice/amazon-ssm-agent.service", usec(0.05, span));
                world.transfer("eth0", span.as_secs() * 17);
            });
        },
        end: End::Stops,
    },
    Incident {
        link: "https://github.com/aws-samples/cloud9-to-power-vscode-blog/issues/8",
        what: "a shell left over in a persistent terminal",
        scene: |world| {
            world.open_terminal("pts/4", 31, "tmux");
            world.wait(5 * HOUR);
        },
        end: End::Stops,
    },
    Incident {
        link: "https://github.com/aws/res/issues/171",
        what: "brief spikes reset the timer shortly before its end",
        scene: |world| {
            for _ in 0..12 {
                world.wait(14 * MINUTE);
                world.burn("system.slice/metrics.service", 8_000_000);
            }
            world.wait(MINUTE);
        },
        end: End::Stops,
    },
    Incident {
        link: "https://github.com/languitar/autosuspend/issues/18",
        what: "one active sample reset everything: a tolerance for peaks was asked for",
        scene: |world| {
            for _ in 0..20 {
                world.wait(10 * MINUTE);
                world.burn("user.slice/user-1000.slice/session-2.scope", 7_000_000);
            }
        },
        end: End::Stops,
    },
    Incident {
        link: "https://github.com/aws-samples/sagemaker-studio-apps-lifecycle-config-examples/issues/17",
        what: "a box that nobody ever connected to never stopped",
        scene: |world| world.wait(5 * HOUR),
        end: End::Stops,
    },
    Incident {
        link: "https://github.com/buildkite/elastic-ci-stack-for-aws/issues/1000",
        what: "one stuck thing kept every box up: there was no ceiling",
        scene: |world| {
            let stuck = RemoteCommand {
                pid: 1,
                since: world.now,
                what: "wait-for-job".to_owned(),
                host: None,
                by_bytes: false,
            };
            known(&mut world.evidence.commands).push(stuck);
            world.wait(14 * HOUR);
        },
        end: End::Stops,
    },
    Incident {
        link: "https://github.com/BasedHardware/omi/pull/11755",
        what: "the stop in the guest failed silently, and 1,151 machines stayed up",
        scene: |world| {
            world.power_off = Err("Connection refused".to_owned());
            world.wait(5 * HOUR);
        },
        end: End::Stops,
    },
    Incident {
        link: "https://github.com/pop-os/cosmic-idle/issues/30",
        what: "inhibited once, the stop was never tried again",
        scene: |world| {
            world.power_off = Err("Operation inhibited by \"backup\"".to_owned());
            world.force = Err("Operation inhibited by \"backup\"".to_owned());
            world.wait(2 * HOUR);
            world.power_off = Ok(());
            world.force = Ok(());
            world.wait(HOUR);
        },
        end: End::Stops,
    },
];

#[test]
fn every_incident_of_others_ends_well_here() {
    let mut wrong = Vec::new();
    for Incident { link, what, scene, end } in INCIDENTS {
        let mut world = World::settled();
        scene(&mut world);
        let is_right = match end {
            End::StaysUp => world.stopped.is_none(),
            End::Stops => world.stopped.is_some(),
        };
        if !is_right {
            wrong.push(format!("{what} ({link}): stopped {:?}", world.stopped));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
