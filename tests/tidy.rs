//! The rules of the house that a program can check.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Every file that belongs to the repository, below a folder of it.
    fn files(folder: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut open = vec![root().join(folder)];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
                let name = entry.file_name();
                // What `.gitignore` leaves out.
                if ["target", ".git", "__pycache__"].iter().any(|ignored| name == *ignored) {
                    continue;
                }
                if entry.file_type().unwrap().is_dir() {
                    open.push(entry.path());
                } else {
                    files.push(entry.path());
                }
            }
        }
        files.sort();
        files
    }

    fn repository() -> Vec<PathBuf> {
        let folders = [".ci", "benches", "crates", "examples", "src", "tests"];
        let at_top =
            fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        at_top
            .chain(
                folders.iter().filter(|folder| root().join(folder).is_dir()).flat_map(|folder| files(folder)),
            )
            .collect()
    }

    fn rust_files() -> Vec<PathBuf> {
        repository()
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
            .collect()
    }

    fn manifests() -> Vec<PathBuf> {
        repository()
            .into_iter()
            .filter(|path| path.file_name().is_some_and(|name| name == "Cargo.toml"))
            .collect()
    }

    fn none(found: &[String]) {
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    /// The README's samples cannot hide the lines that make them run; the crate's documentation can.
    #[test]
    fn the_readmes_samples_are_those_that_are_compiled() {
        let compiled = read(&root().join("src/lib.rs"));
        let readme = read(&root().join("README.md"));
        let samples: Vec<&str> =
            readme.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert_eq!(samples.len(), 3);
        for line in samples.iter().flat_map(|sample| sample.lines()).filter(|line| !line.is_empty()) {
            assert!(compiled.contains(&format!("//! {line}\n")), "not in src/lib.rs: {line}");
        }
    }

    #[test]
    fn the_samples_of_the_training_page_are_those_that_are_compiled() {
        let compiled = read(&root().join("src/training.rs"));
        let page = read(&root().join("docs/training.md"));
        let samples: Vec<&str> =
            page.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(samples.len() >= 3);
        for line in samples.iter().flat_map(|sample| sample.lines()).filter(|line| !line.trim().is_empty()) {
            let compiled_as = |line: &str| compiled.contains(&format!("//! {line}\n"));
            assert!(compiled_as(line) || compiled_as(line.trim()), "not in src/training.rs: {line}");
        }
    }

    #[test]
    fn the_tests_that_the_page_on_robustness_names_are_there() {
        let page = read(&root().join("docs/robustness.md"));
        let named: Vec<(&str, &str)> = page
            .split('`')
            .filter_map(|code| code.split_once("::"))
            .filter(|(module, _)| module.chars().all(|char| char.is_ascii_lowercase() || char == '_'))
            .collect();
        assert!(named.len() > 30, "{named:?}");
        let there = |module: &str, test: &str| {
            fs::read_to_string(root().join("tests/suite").join(module).with_extension("rs"))
                .is_ok_and(|text| text.contains(&format!("#[test]\nfn {test}()")))
        };
        none(
            &named
                .into_iter()
                .filter(|(module, test)| !there(module, test))
                .map(|(module, test)| format!("{module}::{test}"))
                .collect::<Vec<_>>(),
        );
    }

    #[test]
    fn every_unsafe_is_on_the_page_on_robustness() {
        let keyword = ["un", "safe"].concat();
        let uses = |path: &PathBuf| {
            let text = read(path);
            let count = |next: &str| text.matches(&format!("{keyword} {next}")).count();
            ["{", "impl ", "trait ", "fn ", "extern "].into_iter().map(count).sum::<usize>()
        };
        let rows: Vec<String> = rust_files()
            .iter()
            .filter(|path| uses(path) > 0)
            .map(|path| format!("| `{}` | {} |", path.strip_prefix(root()).unwrap().display(), uses(path)))
            .collect();
        assert!(rows.len() > 3, "{rows:?}");
        let page = read(&root().join("docs/robustness.md"));
        none(&rows.iter().filter(|row| !page.contains(*row)).cloned().collect::<Vec<_>>());
        assert_eq!(page.matches(".rs` | ").count(), rows.len(), "the page lists what is gone");
    }

    #[test]
    fn no_rust_file_is_over_600_lines() {
        let long = |path: &PathBuf| Some(read(path).lines().count()).filter(|&lines| lines > 600);
        let found: Vec<String> = rust_files()
            .iter()
            .filter_map(|path| Some(format!("{}: {} lines", path.display(), long(path)?)))
            .collect();
        none(&found);
    }

    #[test]
    fn every_rust_file_begins_by_saying_what_it_is() {
        let silent = |path: &PathBuf| !read(path).starts_with("//! ");
        none(
            &rust_files()
                .iter()
                .filter(|path| silent(path))
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>(),
        );
    }

    #[test]
    fn no_lint_is_silenced_without_a_reason() {
        let mut found = Vec::new();
        for path in rust_files().iter().filter(|path| !path.ends_with("tests/tidy.rs")) {
            let text = read(path);
            for attribute in ["[allow(", "[expect("] {
                for (at, _) in text.match_indices(attribute) {
                    let end = text[at..].find(")]").map_or(text.len(), |len| at + len);
                    if !text[at..end].contains("reason =") {
                        found.push(format!("{}: {}", path.display(), &text[at..end]));
                    }
                }
            }
        }
        none(&found);
    }

    /// The names in the tables of dependencies of a manifest.
    fn dependencies(manifest: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut inside = false;
        for line in manifest.lines() {
            if let Some(table) = line.strip_prefix('[') {
                let table = table.trim_end_matches(']');
                let (path, last) = table.rsplit_once('.').unwrap_or(("", table));
                inside = last.ends_with("dependencies");
                if path.ends_with("dependencies") {
                    names.push(last.to_owned());
                }
            } else if inside {
                let name = line.split(['=', '.']).next().unwrap_or_default().trim();
                if !name.is_empty() && !name.starts_with('#') {
                    names.push(name.to_owned());
                }
            }
        }
        names
    }

    #[test]
    fn core_depends_on_no_device_and_no_tensor_library() {
        let names = dependencies(&read(&root().join("crates/ptser-core/Cargo.toml")));
        assert!(names.iter().any(|name| name == "flate2"), "{names:?}");
        let foreign = ["candle", "cudarc", "objc2", "metal", "tch", "burn", "ndarray", "float8", "ptser"];
        none(
            &names
                .into_iter()
                .filter(|name| foreign.iter().any(|foreign| name.starts_with(foreign)))
                .collect::<Vec<_>>(),
        );
    }

    #[test]
    fn no_backend_knows_candle_or_another_backend() {
        for backend in ["backend-cuda", "backend-metal", "backend-meta"] {
            let names = dependencies(&read(&root().join("crates").join(backend).join("Cargo.toml")));
            let known = |name: &String| {
                name.starts_with("candle") || (name.starts_with("ptser") && name != "ptser-core")
            };
            none(
                &names.into_iter().filter(known).map(|name| format!("{backend}: {name}")).collect::<Vec<_>>(),
            );
        }
    }

    #[test]
    fn every_workspace_dependency_is_used() {
        let workspace = read(&root().join("Cargo.toml"));
        let (declared, rest) = workspace.split_once("[workspace.lints").unwrap();
        let users: Vec<String> = manifests()
            .iter()
            .filter(|path| path.parent() != Some(root()))
            .map(|path| read(path))
            .chain([rest.to_owned()])
            .flat_map(|manifest| dependencies(&manifest))
            .collect();
        assert!(dependencies(declared).iter().any(|name| name == "rustix"));
        let unused: Vec<String> =
            dependencies(declared).into_iter().filter(|name| !users.contains(name)).collect();
        none(&unused);
    }

    #[test]
    fn files_stay_small() {
        let size = |path: &PathBuf| fs::metadata(path).unwrap().len();
        let large = |path: &&PathBuf| size(path) > 1_000_000;
        none(&repository().iter().filter(large).map(|path| path.display().to_string()).collect::<Vec<_>>());
        let fixtures: u64 = files("tests/fixtures").iter().map(size).sum();
        assert!(fixtures < 10_000_000, "{fixtures} bytes of fixtures");
    }

    #[test]
    fn every_folder_of_fixtures_has_what_made_it() {
        for entry in fs::read_dir(root().join("tests/fixtures")).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let maker = if path.is_dir() { path.join("make.py") } else { path.with_extension("py") };
            assert!(maker.exists(), "{} is missing", maker.display());
        }
    }

    #[test]
    fn the_readme_has_the_two_commands() {
        let readme = read(&root().join("README.md"));
        for command in ["cargo run --release --example quickstart", "cargo test --workspace"] {
            assert!(readme.contains(command), "{command}");
        }
    }
}
