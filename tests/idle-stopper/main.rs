//! The tests of guppy-idle-stopper on real machines.
