//! Kind `unit`: root has bound some unit to this one, and that makes the interface. Here it is only
//! waited for, and watched.

use service::notify;
use service::signals::{Signal, Signals};

use super::Ended;
use super::device::Device;
use crate::sense::hints::Hints;

/// Runs until it is told to end.
pub(super) async fn run(device: &Device) -> Ended {
    let (mut hints, mut signals) = match (Hints::of_links(), Signals::new()) {
        (Ok(hints), Ok(signals)) => (hints, signals),
        (Err(error), _) | (_, Err(error)) => return Ended::Again(error.to_string()),
    };
    let mut was_there = None;
    loop {
        let is_there = match device.find().await {
            Ok(link) => link.is_some_and(|link| link.up),
            Err(why) => return Ended::Again(why),
        };
        if was_there != Some(is_there) {
            if is_there {
                notify::ready();
            }
            let name = device.name();
            notify::status(&if is_there {
                format!("{name} is up")
            } else {
                format!("waiting for {name}, which a unit bound to this one makes")
            });
            was_there = Some(is_there);
        }
        tokio::select! {
            heard = hints.next() => if let Err(error) = heard {
                return Ended::Again(error.to_string());
            },
            signal = signals.next() => if signal == Signal::Stop {
                return Ended::Stopped;
            },
        }
    }
}
