use super::{Attempt, Instance, Next, Rules, after, batches};
use crate::decide::failure::{Failure, Kind};

const STOP: Rules = Rules { drill: false, override_stop_protection: false };
const LIFT: Rules = Rules { drill: false, override_stop_protection: true };
const DRILL: Rules = Rules { drill: true, override_stop_protection: true };

fn refused(code: &str) -> Failure {
    Failure::answered(Some(code), Some("said AWS"), 400)
}

fn lone() -> Attempt {
    Attempt { ids: vec!["i-1".into()], ..Attempt::default() }
}

fn instance() -> Instance {
    Instance { id: "i-1".into(), ..Instance::default() }
}

#[test]
fn what_aws_may_refuse_is_not_in_one_call_with_the_others() {
    let many: Vec<Instance> = (0..250)
        .map(|number| Instance {
            id: format!("i-{number}"),
            spot: number % 10 == 1,
            pending: number % 10 == 2,
            hibernates: number % 10 == 3,
            ..Instance::default()
        })
        .collect();
    let calls = batches(&many.iter().collect::<Vec<_>>());
    let sizes: Vec<_> = calls.iter().map(|call| (call.ids.len(), call.hibernate)).collect();
    assert_eq!(sizes, [(100, false), (75, false), (25, true), (50, false)]);
}

#[test]
fn each_answer_for_one_instance_has_its_consequence() {
    let spot = Instance { spot: true, ..instance() };
    let store = Instance { instance_store: true, ..instance() };
    let leaves = |said: &'static str| move |next: &Next| matches!(next, Next::Leave(why) if why.contains(said));
    type Check = Box<dyn Fn(&Next) -> bool>;
    let rows: Vec<(&str, &str, Rules, &Instance, Check)> = vec![
        ("gone", "InvalidInstanceID.NotFound", STOP, &spot, Box::new(|next| *next == Next::Gone)),
        (
            "starting",
            "IncorrectInstanceState",
            STOP,
            &spot,
            Box::new(|next| *next == Next::LookAgain),
        ),
        ("starting", "IncorrectInstanceState", DRILL, &spot, Box::new(leaves("would wait"))),
        ("protected", "OperationNotPermitted", STOP, &spot, Box::new(leaves("is off"))),
        ("protected", "OperationNotPermitted", DRILL, &spot, Box::new(leaves("would lift"))),
        (
            "protected",
            "OperationNotPermitted",
            LIFT,
            &spot,
            Box::new(|next| matches!(next, Next::Lift(_))),
        ),
        ("spot", "UnsupportedOperation", STOP, &spot, Box::new(leaves("Spot"))),
        ("store", "UnsupportedOperation", STOP, &store, Box::new(leaves("instance store"))),
        (
            "denied",
            "UnauthorizedOperation",
            STOP,
            &spot,
            Box::new(leaves("UnauthorizedOperation: said AWS")),
        ),
        ("region", "AuthFailure", STOP, &spot, Box::new(|next| matches!(next, Next::GiveUp(_)))),
    ];
    for (name, code, rules, instance, right) in rows {
        let next = after(lone(), &refused(code), rules, instance);
        assert!(right(&next), "{name}: {next:?}");
    }
}

#[test]
fn a_hibernation_that_is_refused_becomes_a_stop() {
    let hibernation = Attempt { hibernate: true, ..lone() };
    for code in
        ["UnsupportedHibernationConfiguration", "UnsupportedOperation", "OperationNotPermitted"]
    {
        let Next::Try(tries) = after(hibernation.clone(), &refused(code), LIFT, &instance()) else {
            panic!("{code}: no further try");
        };
        assert_eq!(tries, [Attempt { hibernate: false, ..lone() }], "{code}");
    }
}

#[test]
fn protection_is_lifted_once() {
    let lifted = Attempt { lifted: true, ..lone() };
    let next = after(lifted, &refused("OperationNotPermitted"), LIFT, &instance());
    assert!(matches!(next, Next::Leave(_)), "{next:?}");
}

#[test]
fn a_region_that_does_not_answer_is_given_up_after_three_tries() {
    let silent = Failure::unanswered(Kind::Silent, "no answer");
    let mut attempt = Attempt { ids: vec!["i-1".into(), "i-2".into()], ..Attempt::default() };
    for _ in 0..2 {
        let Next::Try(mut again) = after(attempt, &silent, STOP, &instance()) else {
            panic!("no further try");
        };
        assert_eq!(again.len(), 1);
        attempt = again.remove(0);
        assert!(attempt.may_have_happened);
    }
    let said = "no answer; AWS may have stopped it all the same";
    assert!(matches!(after(attempt, &silent, STOP, &instance()), Next::GiveUp(why) if why == said));
}

/// An account as far as StopInstances goes: what it answers for each instance.
#[derive(Clone, Copy, PartialEq)]
enum Nature {
    Good,
    Refuses(&'static str),
    /// Throttled, or broken, so many times.
    Passing(Kind, u32),
}

/// A thousand accounts at random: whatever is mixed, every good instance is stopped, every bad one is
/// named, and the calls stay few.
#[test]
fn no_instance_keeps_another_running() {
    let natures = [
        Nature::Refuses("OperationNotPermitted"),
        Nature::Refuses("UnsupportedOperation"),
        Nature::Refuses("InvalidInstanceID.NotFound"),
        Nature::Refuses("IncorrectInstanceState"),
        Nature::Passing(Kind::Throttled, 4),
        Nature::Passing(Kind::Throttled, u32::MAX),
        Nature::Passing(Kind::Broken, 2),
        Nature::Passing(Kind::Broken, u32::MAX),
    ];
    let mut state = 7u64;
    let mut random = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for account in 0..1000 {
        let poison = random(4);
        let mut all: Vec<(Instance, Nature)> = (0..1 + random(150))
            .map(|number| {
                let nature = match random(10) {
                    roll if roll < poison => {
                        *natures.get(random(natures.len())).expect("below its length")
                    }
                    _ => Nature::Good,
                };
                (Instance { id: format!("i-{number}"), ..Instance::default() }, nature)
            })
            .collect();
        let mut queue = batches(&all.iter().map(|(one, _)| one).collect::<Vec<_>>());
        let (mut stopped, mut settled, mut calls) = (0, 0, 0);
        while let Some(attempt) = queue.pop_front() {
            calls += 1;
            let worst = all
                .iter_mut()
                .find(|(one, nature)| attempt.ids.contains(&one.id) && *nature != Nature::Good);
            let failure = match worst {
                None => {
                    stopped += attempt.ids.len();
                    continue;
                }
                Some((_, nature @ Nature::Passing(_, 0))) => {
                    *nature = Nature::Good;
                    queue.push_front(attempt);
                    continue;
                }
                Some((_, Nature::Passing(kind, left))) => {
                    *left = left.saturating_sub(u32::from(*left != u32::MAX));
                    Failure::unanswered(*kind, "later")
                }
                Some((_, Nature::Refuses(code))) => refused(code),
                Some((_, Nature::Good)) => unreachable!("filtered"),
            };
            let ids = attempt.ids.len();
            match after(attempt, &failure, STOP, &instance()) {
                Next::Try(more) => queue.extend(more),
                Next::LookAgain | Next::Gone | Next::Leave(_) => settled += ids,
                other => panic!("{other:?}"),
            }
        }
        let bad = all.iter().filter(|(_, nature)| match nature {
            Nature::Good => false,
            Nature::Refuses(_) => true,
            Nature::Passing(_, left) => *left > 0,
        });
        let bad = bad.count();
        assert_eq!((stopped, settled), (all.len() - bad, bad), "account {account}");
        assert!(calls <= 3 + all.len() * 5, "account {account}: {calls} calls");
    }
}
