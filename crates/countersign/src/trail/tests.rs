//! Tests of the trail: what is kept, what is lost and said, and that every change of it shows.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc};

use serde_json::json;

use super::*;

/// A state directory and a trail in it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Self { folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    fn open(&self, policy: Policy) -> Trail {
        Trail::open(&TrailOptions::new(self.file()).with_policy(policy), self.folder.path()).unwrap()
    }

    /// A trail with one record that opens it and `count` more.
    fn with(count: u32) -> Self {
        let place = Self::new();
        let trail = place.open(Policy::BestEffort);
        (0..count)
            .for_each(|number| trail.note("login", &json!({"number": number, "user": "a\",\"mac\":\"b"})));
        drop(trail);
        place
    }

    fn verify(&self, files: &[PathBuf]) -> Report {
        verify(files, &Key::of(self.folder.path()).unwrap(), Some(self.folder.path())).unwrap()
    }

    /// What is found when the lines are others.
    fn damaged(&self, change: impl FnOnce(&mut Vec<String>)) -> Vec<(u64, Damage)> {
        let whole = fs::read_to_string(self.file()).unwrap();
        let mut lines: Vec<String> = whole.split_inclusive('\n').map(str::to_owned).collect();
        change(&mut lines);
        fs::write(self.file(), lines.concat()).unwrap();
        let report = self.verify(&[self.file()]);
        fs::write(self.file(), whole).unwrap();
        report.findings.into_iter().map(|finding| (finding.line, finding.damage)).collect()
    }
}

fn events(file: &Path) -> Vec<String> {
    let event = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["event"].as_str().unwrap().to_owned()
    };
    fs::read_to_string(file).unwrap().lines().map(event).collect()
}

#[test]
fn records_are_lines_of_json_for_us_alone_and_the_chain_is_whole() {
    let place = Place::with(3);
    assert_eq!(events(&place.file()), ["opened", "login", "login", "login"]);
    assert_eq!(fs::metadata(place.file()).unwrap().permissions().mode() & 0o777, 0o600);
    let report = place.verify(&[place.file()]);
    assert_eq!((report.records, report.first, report.last, report.continues), (4, Some(1), Some(4), false));
    assert_eq!(report.findings, []);
    let record: serde_json::Value =
        serde_json::from_str(fs::read_to_string(place.file()).unwrap().lines().nth(2).unwrap()).unwrap();
    assert_eq!((&record["seq"], &record["number"]), (&json!(3), &json!(1)));
    assert!(record["time"].as_str().unwrap().ends_with('Z'), "{record}");
}

#[test]
fn the_chain_goes_on_over_starts_and_over_files_that_are_moved_away() {
    let place = Place::with(1);
    let trail = place.open(Policy::BestEffort);
    let moved: Vec<PathBuf> = (0..3)
        .map(|number| {
            trail.note("login", &json!({}));
            let moved = place.folder.path().join(format!("audit.jsonl.{number}"));
            // What is in the queue belongs to the file that is there when it is written.
            while events(&place.file()).last().is_none_or(|last| last != "login") {
                thread::yield_now();
            }
            fs::rename(place.file(), &moved).unwrap();
            trail.reopen();
            while !place.file().exists() || fs::read(place.file()).unwrap().is_empty() {
                thread::yield_now();
            }
            moved
        })
        .collect();
    drop(trail);
    assert_eq!(events(&place.file()), ["continued"]);
    assert_eq!(events(&moved[1]), ["continued", "login"]);
    // In any order.
    let all = [&[place.file()], moved.as_slice()].concat();
    let report = place.verify(&all);
    assert_eq!((report.records, report.continues, &report.findings), (9, false, &vec![]));
    // The last one alone is whole as far as it goes, and a file that is left out shows.
    assert!(place.verify(&all[..1]).continues);
    let gap = place.verify(&[moved[0].clone(), moved[2].clone(), place.file()]);
    assert_eq!(gap.findings.len(), 1, "{gap:?}");
    assert_eq!(gap.findings[0].damage, Damage::Missing { from: 5, to: 6 });
    assert_eq!(gap.findings[0].file, moved[2]);
}

#[test]
fn every_edit_is_found_in_its_line() {
    let place = Place::with(4);
    let lines = fs::read_to_string(place.file()).unwrap();
    for line in 0..5 {
        for at in 0..lines.lines().nth(line).unwrap().len() {
            let found = place.damaged(|lines| {
                // Another character, whatever it was.
                let other = if lines[line].as_bytes()[at] == b'7' { "8" } else { "7" };
                lines[line].replace_range(at..=at, other);
            });
            assert_eq!(found, [(line as u64 + 1, Damage::Changed)], "byte {at}");
        }
    }
}

#[test]
fn what_is_dropped_swapped_repeated_put_in_or_cut_off_is_named() {
    use Damage::{Changed, Cut, Misplaced, Missing, Repeated, Torn};
    let place = Place::with(9);
    let found = |change: fn(&mut Vec<String>)| place.damaged(change);
    assert_eq!(found(|_| {}), []);
    assert_eq!(found(|lines| _ = lines.remove(4)), [(5, Missing { from: 5, to: 5 })]);
    assert_eq!(found(|lines| _ = lines.drain(4..7)), [(5, Missing { from: 5, to: 7 })]);
    assert_eq!(found(|lines| _ = lines.remove(0)), [(1, Missing { from: 1, to: 1 })]);
    assert_eq!(
        found(|lines| lines.swap(3, 6)),
        [(5, Misplaced { seq: 5 }), (6, Misplaced { seq: 6 }), (7, Misplaced { seq: 4 })]
    );
    assert_eq!(found(|lines| lines.insert(6, lines[2].clone())), [(7, Repeated { seq: 3 })]);
    assert_eq!(found(|lines| lines.insert(6, "{}\n".to_owned())), [(7, Changed)]);
    assert_eq!(found(|lines| lines.truncate(8)), [(8, Cut { from: 9, to: 10 })]);
    assert_eq!(found(Vec::clear), [(0, Cut { from: 1, to: 10 })]);
    let half = |lines: &mut Vec<String>| lines[9].truncate(40);
    assert_eq!(place.damaged(half), [(10, Torn)]);
    // A record that was changed and one that is gone beside it.
    let both = |lines: &mut Vec<String>| {
        lines[3] = "{}\n".to_owned();
        lines.remove(4);
    };
    assert_eq!(place.damaged(both), [(4, Changed), (5, Missing { from: 5, to: 5 })]);
}

#[test]
fn a_chain_that_another_key_made_anew_is_none_of_ours() {
    let (ours, theirs) = (Place::with(3), Place::with(3));
    fs::copy(theirs.file(), ours.file()).unwrap();
    let report = ours.verify(&[ours.file()]);
    assert_eq!(report.records, 0);
    let changed = report.findings.iter().filter(|finding| finding.damage == Damage::Changed).count();
    assert_eq!(changed, 4, "{report:?}");
}

#[test]
fn what_a_crash_left_half_written_is_taken_away_and_said() {
    let place = Place::with(2);
    let mut bytes = fs::read(place.file()).unwrap();
    let half = br#"{"seq":4,"prev"#;
    bytes.extend_from_slice(half);
    fs::write(place.file(), bytes).unwrap();
    drop(place.open(Policy::Required));
    assert_eq!(place.verify(&[place.file()]).findings, []);
    assert!(fs::read_to_string(place.file()).unwrap().contains(r#""event":"opened","version":"#));
    assert!(fs::read_to_string(place.file()).unwrap().contains(&format!(r#""torn":{}"#, half.len())));
}

#[test]
fn a_start_goes_on_behind_what_was_cut_off_and_the_cut_stays_visible() {
    let place = Place::with(5);
    let whole = fs::read_to_string(place.file()).unwrap();
    fs::write(place.file(), whole.split_inclusive('\n').take(4).collect::<String>()).unwrap();
    drop(place.open(Policy::BestEffort));
    let report = place.verify(&[place.file()]);
    let found: Vec<_> = report.findings.iter().map(|finding| &finding.damage).collect();
    assert_eq!(found, [&Damage::Missing { from: 5, to: 6 }]);
    assert_eq!(report.last, Some(7));
}

#[tokio::test]
async fn s_093_nobody_gets_in_without_a_record_where_it_is_required_and_losses_are_counted_elsewhere() {
    for policy in [Policy::Required, Policy::BestEffort] {
        let place = Place::new();
        let trail = place.open(policy);
        trail.keep("login", &json!({"number": 1})).await.unwrap();
        while events(&place.file()).len() < 2 {
            tokio::task::yield_now().await;
        }
        // A file that cannot be written: a directory is in its place.
        fs::rename(place.file(), place.folder.path().join("moved")).unwrap();
        fs::create_dir(place.file()).unwrap();
        let kept = trail.keep("login", &json!({"number": 2})).await;
        assert_eq!(kept.is_err(), policy == Policy::Required);
        trail.note("login", &json!({"number": 3}));
        while trail.lost() < 2 {
            tokio::task::yield_now().await;
        }
        fs::remove_dir(place.file()).unwrap();
        trail.keep("login", &json!({"number": 4})).await.unwrap();
        drop(trail);
        assert_eq!(events(&place.file()), ["continued", "lost", "login"]);
        assert!(fs::read_to_string(place.file()).unwrap().contains(r#""event":"lost","records":2,"#));
        let files = [place.folder.path().join("moved"), place.file()];
        assert_eq!(place.verify(&files).findings, []);
    }
}

#[test]
fn s_064_the_second_gateway_on_one_trail_gives_up() {
    let place = Place::with(1);
    let held = place.open(Policy::BestEffort);
    let error = Trail::open(&TrailOptions::new(place.file()), place.folder.path()).unwrap_err();
    assert_eq!(error.to_string(), "the audit trail: another gateway writes it");
    drop(held);
    place.open(Policy::BestEffort);
}

#[test]
fn s_041_a_key_that_others_can_read_is_a_start_error() {
    let place = Place::with(1);
    let key = place.folder.path().join("audit.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = Trail::open(&TrailOptions::new(place.file()), place.folder.path()).unwrap_err();
    assert_eq!(error.fix(), format!("chmod 600 {}", key.display()));
    assert_eq!(format!("{:?}", Key::of(Place::with(1).folder.path()).unwrap()), "Key");
}

#[test]
fn records_of_many_threads_are_one_chain() {
    let place = Place::new();
    let trail = Arc::new(place.open(Policy::BestEffort));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..200).for_each(|number| trail.note("login", &json!({"number": number}))));
        }
    });
    assert_eq!(trail.lost(), 0);
    drop(trail);
    let report = place.verify(&[place.file()]);
    assert_eq!((report.records, report.findings.len()), (1601, 0));
}
