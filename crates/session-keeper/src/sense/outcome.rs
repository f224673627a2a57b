//! What came of a start, from what its shim has left on the disk.

use super::{Outcome, Reading, Report};
use crate::agents::Agent;
use crate::conversation::Conversation;
use crate::report::{self, LOCKED, Phase};

/// A report in the words of `decide`.
pub(super) fn read_as(
    report: Reading<Option<report::Report>>,
    agent: &Agent,
) -> Reading<Option<Report>> {
    let report = match report {
        Reading::Known(Some(report)) => report,
        Reading::Known(None) => return Reading::Known(None),
        Reading::Unknown(why) => return Reading::Unknown(why),
    };
    let outcome = match (report.phase, report.pid) {
        (Phase::Started, pid) => Outcome::Started { pid: pid.unwrap_or(0) },
        (Phase::Ended, _) => Outcome::Ended {
            code: report.exit_code,
            signal: report.signal,
            oom: report.oom_killed == Some(true),
            stopping: report.unit_stopping,
            pane_closed: report.pane_closed,
        },
        (Phase::Refused, _) => {
            let why = report.refused.unwrap_or_else(|| "its shim refused".to_owned());
            match why.strip_prefix(LOCKED) {
                Some(by) => Outcome::Locked(by.to_owned()),
                None if report.unit_stopping || report.pane_closed || report.asked => {
                    Outcome::Ended {
                        code: None,
                        signal: None,
                        oom: false,
                        stopping: report.unit_stopping,
                        pane_closed: report.pane_closed,
                    }
                }
                None => Outcome::Refused(why),
            }
        }
    };
    let shape = agent.conversation.shape;
    let (conflict, server_gone) = (report.conflict, report.server_gone);
    let conversation = report.conversation.and_then(|id| Conversation::of_shape(shape, &id).ok());
    let start = report.start;
    Reading::Known(Some(Report { start, outcome, conversation, conflict, server_gone }))
}
