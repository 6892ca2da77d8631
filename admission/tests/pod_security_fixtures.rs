//! The Pod manifests of `../shared/fixtures/psa`, which a correct evaluator passes or refuses.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "../../tests/support/skipped.rs"]
mod skipped;

use std::{
    fs,
    path::{Path, PathBuf},
};

use admission::{
    GroupVersionResource,
    pod::{Pod, fill_defaults},
    pod_security::{Evaluation, LevelVersion, Version, evaluate},
};
use skipped::skipped;

fn fixtures() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/psa");
    if !folder.exists() {
        skipped("../shared is absent");
        return None;
    }
    Some(folder)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_owned()
}

/// The folder of a version in which a later minor finds the same manifests: there are folders for even ones.
fn minors(folder: &Path) -> Vec<u32> {
    let even: u32 = folder.file_name().unwrap().to_str().unwrap()[3..].parse().unwrap();
    match even {
        // These versions brought a check or changed one, so the one before has other manifests.
        18 | 22 | 34 => vec![even],
        _ => vec![even, even + 1],
    }
}

fn evaluated(level: &str, minor: u32, file: &Path) -> Evaluation {
    let mut pod: serde_json::Value = serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    fill_defaults(&GroupVersionResource::new("", "v1", "pods"), &mut pod);
    evaluate(LevelVersion::new(level.parse().unwrap(), Version::V1(minor)), &Pod::of(&pod).unwrap())
}

/// What the message says when the check of a file's name refuses.
fn reason(file: &str) -> &'static str {
    match file.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "allowprivilegeescalation" => "allowPrivilegeEscalation != false",
        "apparmorprofile" => "forbidden AppArmor profile",
        "capabilities_baseline" | "capabilities_restricted" => "capabilities",
        "hostnamespaces" => "host namespaces",
        "hostpathvolumes" | "restrictedvolumes" => "volume",
        "hostports" => "hostPort",
        "hostprobesandhostlifecycle" => "probe or lifecycle host",
        "privileged" => "privileged",
        "procmount" | "procmount_restricted" => "procMount",
        "runasnonroot" => "runAsNonRoot != true",
        "runasuser" => "runAsUser=0",
        "seccompprofile_baseline" | "seccompprofile_restricted" => "seccompProfile",
        "selinuxoptions" => "seLinuxOptions",
        "sysctls" => "forbidden sysctls",
        "windowshostprocess" => "hostProcess",
        other => panic!("no reason is known for {other}"),
    }
}

#[test]
fn every_manifest_has_its_verdict_and_is_refused_by_its_check() {
    let Some(root) = fixtures() else { return };
    let mut seen = 0;
    for level in ["baseline", "restricted"] {
        for folder in entries(&root.join(level)) {
            for minor in minors(&folder) {
                for file in entries(&folder.join("pass")) {
                    let evaluation = evaluated(level, minor, &file);
                    assert!(evaluation.is_allowed(), "{level} v1.{minor} {}: {evaluation:?}", file.display());
                    seen += 1;
                }
                for file in entries(&folder.join("fail")) {
                    let evaluation = evaluated(level, minor, &file);
                    let reason = reason(&name(&file));
                    assert!(
                        evaluation.reasons().contains(reason),
                        "{level} v1.{minor} {}: {evaluation:?}",
                        file.display()
                    );
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 3000, "only {seen} evaluations: the test looks in the wrong place");
}
