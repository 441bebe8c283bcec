//! Every target holds for its seeds, on any toolchain.

use std::fs;
use std::path::Path;

use sandserve_fuzz::TARGETS;

#[test]
fn every_target_holds_for_its_seeds() {
    for (name, target) in TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("seeds")
            .join(name);
        let seeds = fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let mut count = 0;
        for seed in seeds {
            let seed = seed.expect("a name").path();
            println!("{}", seed.display());
            target(&fs::read(&seed).expect("a seed"));
            count += 1;
        }
        assert!(count > 0, "{name} has no seeds");
    }
}

#[test]
fn every_target_has_a_program() {
    let manifest = include_str!("../Cargo.toml");
    let mut programs: Vec<_> = manifest
        .lines()
        .filter_map(|line| {
            line.strip_prefix("path = \"fuzz_targets/")?
                .strip_suffix(".rs\"")
        })
        .collect();
    programs.sort_unstable();
    assert_eq!(programs, TARGETS.map(|(name, _)| name));
}
