//! What a random walk over the kernel's state is made of.

use proptest::prelude::*;

/// Something that happens to the box.
#[derive(Clone, Debug)]
pub(super) enum Step {
    FlushRules,
    DeleteRule(usize),
    FlushTable,
    DeleteRoute(usize),
    FlushNft,
    FlushFilters,
    LinkDown,
    LinkUp,
    LinkDeleted,
    LinkMade,
    AddressesFlushed,
    RenamePeers,
    RenamePeersBack,
    RenameTunnel,
    RenameTunnelBack,
    PeersRemade,
    UplinkGone,
    UplinkBack,
    ForeignRoute,
    ForeignRule,
    Down,
    Up,
    /// The daemon looks, and gets so far before it is killed.
    Look(usize),
}

/// Any of them.
pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::FlushRules),
        (0..12_usize).prop_map(Step::DeleteRule),
        Just(Step::FlushTable),
        (0..8_usize).prop_map(Step::DeleteRoute),
        Just(Step::FlushNft),
        Just(Step::FlushFilters),
        Just(Step::LinkDown),
        Just(Step::LinkUp),
        Just(Step::LinkDeleted),
        Just(Step::LinkMade),
        Just(Step::AddressesFlushed),
        Just(Step::RenamePeers),
        Just(Step::RenamePeersBack),
        Just(Step::RenameTunnel),
        Just(Step::RenameTunnelBack),
        Just(Step::PeersRemade),
        Just(Step::UplinkGone),
        Just(Step::UplinkBack),
        Just(Step::ForeignRoute),
        Just(Step::ForeignRule),
        Just(Step::Down),
        Just(Step::Up),
        (0..40_usize).prop_map(Step::Look),
        Just(Step::Look(usize::MAX)),
    ]
}
