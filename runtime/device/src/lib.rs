//! Executes plans on this machine.
