//! The pages under `docs/` name every flag, metric and route that there is, and none that there is not.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// Fails with what is missing on either side.
fn agree(what: &str, real: &BTreeSet<String>, documented: &BTreeSet<String>, page: &str) {
    let missing: Vec<_> = real.difference(documented).collect();
    let invented: Vec<_> = documented.difference(real).collect();
    assert!(!real.is_empty(), "no {what} was found: the test itself looks in the wrong place");
    assert!(missing.is_empty(), "docs/{page} lacks these {what}: {missing:?}");
    assert!(invented.is_empty(), "docs/{page} names these {what}, which do not exist: {invented:?}");
}

/// What stands between backquotes at the beginning of the first cell of a table's row.
fn first_cells(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(cell, _)| cell))
}

fn help(command: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_muniment")).args(command).arg("--help").output().unwrap();
    assert!(output.status.success(), "muniment {} --help failed", command.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let list = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    list.lines()
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// The long flags that a help text lists: each begins a line, perhaps behind its short form.
fn flags(help: &str) -> BTreeSet<String> {
    help.lines()
        .map(str::trim_start)
        .map(|line| {
            line.split_once(", --")
                .map_or(line, |(short, _)| if short.len() == 2 { &line[4..] } else { line })
        })
        .filter_map(|line| line.strip_prefix("--"))
        .map(|line| line.split(|c: char| c != '-' && !c.is_ascii_alphanumeric()).next().unwrap_or_default())
        .filter(|name| *name != "help" && *name != "version")
        .map(|name| format!("--{name}"))
        .collect()
}

/// Every command with its flags, as `muniment token create` has them.
fn real_flags(command: &mut Vec<String>, found: &mut BTreeSet<String>) {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let help = help(&words);
    found.extend(flags(&help).iter().map(|flag| format!("{}{flag}", prefix(&words))));
    for name in commands(&help) {
        command.push(name);
        real_flags(command, found);
        command.pop();
    }
}

fn prefix(words: &[&str]) -> String {
    words.iter().map(|word| format!("{word} ")).collect()
}

/// The flags of the page: tables under headings like "## `muniment token create`, a client command". The flags that
/// all client commands share, and those of `serve` where a command takes them too, stand once.
fn documented_flags(text: &str) -> BTreeSet<String> {
    let shared = section_flags(text.split("\n## Flags of client commands\n").nth(1).unwrap_or_default());
    let serve = section_flags(text.split("\n## `muniment serve`\n").nth(1).unwrap_or_default());
    let mut found = BTreeSet::new();
    for section in text.split("\n## `muniment ").skip(1) {
        let (command, rest) = section.split_once('`').unwrap_or_default();
        let heading = rest.lines().next().unwrap_or_default();
        let mut flags = section_flags(section);
        match heading {
            ", a client command" => flags.extend(shared.clone()),
            ", as serve" => flags.extend(serve.clone()),
            _ => {}
        }
        found.extend(flags.iter().map(|flag| format!("{command} {flag}")));
    }
    found
}

/// The flags in the tables up to the next heading.
fn section_flags(text: &str) -> BTreeSet<String> {
    let section = text.split("\n## ").next().unwrap_or_default();
    first_cells(section).filter(|cell| cell.starts_with("--")).map(str::to_owned).collect()
}

#[test]
fn every_flag_is_documented_and_every_documented_flag_exists() {
    let mut real = BTreeSet::new();
    real_flags(&mut Vec::new(), &mut real);
    agree("flags", &real, &documented_flags(&page("configuration.md")), "configuration.md");
}

/// Every crate's folder; the root's own is the first.
const CRATES: [&str; 7] = ["", "manifest", "crypto", "admission", "ingest", "index", "api"];

/// The sources of every crate: what is under its `src`.
fn sources() -> Vec<PathBuf> {
    rust_files(CRATES.map(|name| root().join(name).join("src")).into())
}

/// Every file below these folders, those that are there.
fn rust_files(mut folders: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// The names of metrics in a source: literals like "muniment_journal_bytes".
fn metric_names(text: &str) -> impl Iterator<Item = String> {
    text.split("\"muniment_")
        .skip(1)
        .filter_map(|rest| rest.split_once('"').map(|(name, _)| name))
        .filter(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        .map(|name| format!("muniment_{name}"))
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_exists() {
    let real = sources()
        .into_iter()
        .flat_map(|file| metric_names(&fs::read_to_string(file).unwrap()).collect::<Vec<_>>());
    let text = page("metrics.md");
    let documented = first_cells(&text).map(str::to_owned).collect();
    agree("metrics", &real.collect(), &documented, "metrics.md");
}

/// The routes that the router adds: `.add("/v1/tokens", get(list).post(create))`, or with a variable that holds the methods.
fn real_routes(text: &str) -> BTreeSet<String> {
    let mut routes = BTreeSet::new();
    for added in text.split(".add(").skip(1) {
        let Some((path, rest)) = added.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'))
        else {
            continue;
        };
        let handlers = rest.trim_start_matches(',').split(';').next().unwrap_or_default().trim();
        let name =
            handlers.split(|c: char| c != '_' && !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        let held = text.split(&format!("let {name} = ")).nth(1).and_then(|rest| rest.split(';').next());
        for method in methods(held.unwrap_or(handlers)) {
            routes.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    routes
}

/// The methods that a chain like `get(list).post(create)` answers.
fn methods(chain: &str) -> impl Iterator<Item = &'static str> {
    let is_named =
        |at: usize| !chain[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || "_:".contains(c));
    ["get", "post", "put", "patch", "delete"]
        .into_iter()
        .filter(move |method| chain.match_indices(&format!("{method}(")).any(|(at, _)| is_named(at)))
}

#[test]
fn every_route_is_documented_and_every_documented_route_exists() {
    let real = real_routes(&fs::read_to_string(root().join("api/src/routes.rs")).unwrap());
    let documented = page("api.md")
        .lines()
        .filter_map(|line| line.strip_prefix("## `")?.split_once('`').map(|(route, _)| route.to_owned()))
        .collect();
    agree("routes", &real, &documented, "api.md");
}

#[test]
fn a_test_that_cannot_run_is_in_the_report_of_the_run_and_not_only_printed() {
    let mut files = sources();
    files.extend(rust_files(CRATES.map(|name| root().join(name).join("tests")).into()));
    assert!(files.len() > 100, "{files:?}");
    let own = Path::new("tests/support/skipped.rs");
    for file in files.iter().filter(|file| !file.ends_with(own) && !file.ends_with(file!())) {
        let text = fs::read_to_string(file).unwrap();
        assert!(!text.contains("\"skipped: "), "{} prints it by itself", file.display());
    }
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut pages =
        vec![root().join("README.md"), root().join("ARCHITECTURE.md"), root().join("CHANGELOG.md")];
    for folder in ["docs", "docs/adr"] {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = page.parent().unwrap().join(target);
            assert!(path.exists(), "{} links to {target}, which is not there", page.display());
        }
    }
}
