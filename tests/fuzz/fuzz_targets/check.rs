//! Any program: checking it ends without a panic, and what has no problem compiles to plans or is refused with a code; a fault of the
//! compiler (E0899) is a finding.
//!
//! `cargo +nightly fuzz run check` begins with the sample programs: give it `../programs` as a second corpus folder. How much a
//! file may ask for is bounded by the checker itself (E0508), so huge models need no guard here: plans are made, never run.

#![no_main]

use cs336_compiler::check::hir::Spec;
use cs336_compiler::front::check;
use cs336_compiler::problem::Problems;
use cs336_compiler::world::Texts;
use libfuzzer_sys::fuzz_target;

const MAIN: &str = "main.cs336";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let world = Texts { files: vec![(MAIN.to_owned(), text.to_owned())] };
    let mut checked = check(&world, MAIN, &[]);
    no_fault(checked.problems());
    if checked.problems().has_errors() {
        return;
    }
    let trains = checked.nodes.iter().filter(|(_, n)| matches!(n.spec, Spec::Train(_)));
    let names: Vec<String> = trains.map(|(name, _)| name.clone()).collect();
    for name in names {
        let refused = [
            checked.costs(&name).err(),
            checked.train_programs(&name, None).err(),
            checked.decode_programs(&name, 4, 16).err(),
        ];
        refused.iter().flatten().for_each(no_fault);
    }
});

fn no_fault(problems: &Problems) {
    let fault = problems.iter().find(|p| p.code == "E0899");
    assert!(fault.is_none(), "{fault:?}");
}
