//! The trust ledger on disk: what survives a kill, what a damaged file does, and the log between epochs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sage::ledger::{LedgerError, LedgerFile, log_path};
use sage_actors::ModuleShape;
use sage_actors::protocol::{Module, Outcome, Scored, State, TokenOrigin, TokenOutcome, Worked};
use sage_actors::trust::Ledger;
use sage_actors::trust::state::LedgerState;
use sage_actors::trust::store::{Epochs, LedgerStore};

const FINGERPRINT: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const LAYERS: [u16; 3] = [0, 1, 3];
const EXPERTS: u16 = 8;

fn fresh() -> Ledger {
    Ledger::new(&[ModuleShape {
        module: Module::Thinker,
        layers: LAYERS.to_vec(),
        experts: EXPERTS,
        k_trained: 2,
        norm_topk_prob: true,
        expert_bytes: 1,
        smaller: Vec::new(),
    }])
}

/// A number that looks random and is the same in every process.
fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The n-th outcome of every run: states change often, so that many epochs end.
fn outcome(n: u64) -> Outcome {
    let unit = |salt: u64| (mix(n * 64 + salt) >> 40) as f32 / (1 << 24) as f32;
    let worked = LAYERS.iter().enumerate().map(|(at, layer)| Worked {
        layer: *layer,
        expert: (mix(n * 64 + at as u64) % u64::from(EXPERTS)) as u16,
        gate: unit(8 + at as u64),
    });
    let token = |origin| TokenOutcome {
        origin,
        error: unit(20) * 4.0,
        entropy: unit(21) * 4.0,
        worked: worked.clone().collect(),
    };
    Outcome {
        tick: n * 3,
        ticks: 3,
        state: State::ALL[(mix(n / 7) % 6) as usize],
        module: Module::Thinker,
        tokens: vec![token(TokenOrigin::Observed), token(TokenOrigin::Generated)],
        denied: worked.clone().take(1).collect(),
        feedback: n.is_multiple_of(11).then(|| unit(22) * 2.0 - 1.0),
        scored: worked
            .clone()
            .take(usize::from(n.is_multiple_of(5)))
            .map(|worked| Scored {
                layer: worked.layer,
                expert: worked.expert,
                tokens: 1 + (n % 9) as u32,
                increase: f64::from(unit(23)) - 0.4,
            })
            .collect(),
    }
}

/// Every bit of it.
fn bytes(state: &LedgerState) -> Vec<u8> {
    postcard::to_stdvec(state).unwrap()
}

fn open_for(path: &Path) -> Result<(LedgerFile, Ledger), LedgerError> {
    LedgerFile::open_for(path, FINGERPRINT, &fresh().state())
}

/// Learns, logs and commits as the engine does.
fn learn(file: &mut LedgerFile, ledger: &mut Ledger, epochs: &mut Epochs, n: u64) {
    let outcome = outcome(n);
    ledger.learn(&outcome).unwrap();
    file.log(&outcome).unwrap();
    if epochs.ends_with(&outcome) {
        file.commit(&ledger.state()).unwrap();
    }
}

/// The ledger as it must be after so many outcomes.
struct Reference {
    ledger: Ledger,
    learned: u64,
}

impl Reference {
    fn new() -> Self {
        Self {
            ledger: fresh(),
            learned: 0,
        }
    }

    fn after(&mut self, outcomes: u64) -> Vec<u8> {
        assert!(self.learned <= outcomes);
        for n in self.learned..outcomes {
            self.ledger.learn(&outcome(n)).unwrap();
        }
        self.learned = outcomes;
        bytes(&self.ledger.state())
    }
}

const CHILD: &str = "SAGE_TEST_LEDGER_OF_A_PROCESS_THAT_WILL_BE_KILLED";

/// Not a test of its own: the process that the kill test starts and kills.
#[test]
fn child_that_logs_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let (mut file, mut ledger) = open_for(Path::new(&path)).unwrap();
    let mut epochs = Epochs::default();
    for n in file.about().outcomes.. {
        learn(&mut file, &mut ledger, &mut epochs, n);
        println!("logged {}", n + 1);
    }
}

/// Kills a process that logs, again and again, and looks at what it leaves each time.
fn kill_again_and_again(kills: u64) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("trust.redb");
    let mut reference = Reference::new();
    let (mut found, mut with_log) = (0, 0);
    for kill in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "ledger::child_that_logs_until_it_is_killed",
                "--nocapture",
            ])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut logged: u64 = 0;
        let mut hear = |line: String| {
            if let Some(n) = line.strip_prefix("logged ") {
                logged = n.parse().unwrap();
            }
        };
        if kill % 4 == 3 {
            // While it starts: making the ledger, or taking the log in.
            std::thread::sleep(Duration::from_micros(mix(kill) % 40_000));
        } else {
            (&mut lines)
                .map_while(Result::ok)
                .take((mix(kill) % 120) as usize)
                .for_each(&mut hear);
            std::thread::sleep(Duration::from_micros(mix(kill + 1_000_000) % 3_000));
        }
        child.kill().unwrap();
        lines.map_while(Result::ok).for_each(&mut hear);
        child.wait().unwrap();
        if !path.exists() {
            assert_eq!((logged, found), (0, 0), "kill {kill}: the ledger is gone");
            continue;
        }
        with_log += u64::from(log_path(&path).exists());
        let (file, ledger) = LedgerFile::open(&path).unwrap_or_else(|e| panic!("kill {kill}: {e}"));
        let outcomes = file.about().outcomes;
        let least = logged.max(found);
        assert!(
            outcomes == least || outcomes == least + 1,
            "kill {kill}: {logged} were logged, {found} before, {outcomes} are there"
        );
        assert_eq!(file.about().tick, outcomes * 3);
        assert_eq!(
            bytes(&ledger.state()),
            reference.after(outcomes),
            "kill {kill}"
        );
        found = outcomes;
    }
    assert!(found > kills * 10, "hardly anything was logged: {found}");
    assert!(with_log > 0, "no kill left a log");
}

#[test]
fn no_logged_tick_is_lost_by_a_kill() {
    kill_again_and_again(12);
}

#[test]
#[ignore = "a minute; the same with a hundred kills"]
fn no_logged_tick_is_lost_by_a_hundred_kills() {
    kill_again_and_again(100);
}

/// A ledger as a killed process leaves it: some epochs, and a log. Returns how many outcomes are in its last epoch.
fn left_by_a_kill(path: &Path, outcomes: u64) -> u64 {
    let (mut file, mut ledger) = open_for(path).unwrap();
    let mut epochs = Epochs::default();
    let mut committed = 0;
    for n in 0..outcomes {
        let before = file.epochs();
        learn(&mut file, &mut ledger, &mut epochs, n);
        if file.epochs() > before {
            committed = n + 1;
        }
    }
    // Dropped, not closed.
    committed
}

/// A copy of ledger and log that may be damaged.
fn copied(path: &Path, name: &str) -> PathBuf {
    let copy = path.with_file_name(name);
    fs::copy(path, &copy).unwrap();
    fs::copy(log_path(path), log_path(&copy)).unwrap();
    copy
}

/// Either a message, or a state that the ledger once had. Tells how many outcomes it has, if it can be opened.
fn opened(path: &Path, states: &[Vec<u8>], what: &str) -> Result<usize, String> {
    match LedgerFile::open(path) {
        Ok((file, ledger)) => {
            let outcomes = file.about().outcomes as usize;
            assert_eq!(bytes(&ledger.state()), states[outcomes], "{what}");
            Ok(outcomes)
        }
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn a_damaged_database_is_refused_or_as_it_once_was() {
    const OUTCOMES: u64 = 40;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("trust.redb");
    left_by_a_kill(&path, OUTCOMES);
    let mut reference = Reference::new();
    let states: Vec<Vec<u8>> = (0..=OUTCOMES).map(|n| reference.after(n)).collect();
    let whole = fs::read(&path).unwrap();
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut refused = 0;
    let mut check = |damaged: &[u8], what: &str| {
        let copy = copied(&path, "damaged.redb");
        fs::write(&copy, damaged).unwrap();
        if let Err(message) = opened(&copy, &states, what) {
            assert!(message.contains("damaged.redb"), "{what}: {message}");
            refused += 1;
        }
    };
    for length in [
        0,
        5,
        9,
        100,
        319,
        320,
        4096,
        5000,
        whole.len() / 2,
        whole.len() - 1,
    ] {
        check(&whole[..length], &format!("cut to {length} bytes"));
    }
    // The head byte by byte where it says something; then anywhere.
    let head = used.iter().copied().filter(|at| *at < 320).step_by(8);
    let anywhere = (0..16).map(|n| used[(mix(n) % used.len() as u64) as usize]);
    for at in head.chain(anywhere) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        check(&damaged, &format!("a bit of byte {at}"));
        damaged[at] = !whole[at];
        check(&damaged, &format!("byte {at}"));
    }
    assert!(refused >= 10, "only {refused} were refused");
}

#[test]
fn a_damaged_log_is_refused_or_ends_earlier() {
    const OUTCOMES: u64 = 40;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("trust.redb");
    let committed = left_by_a_kill(&path, OUTCOMES) as usize;
    assert!(
        committed + 2 <= OUTCOMES as usize,
        "the log holds too little"
    );
    let mut reference = Reference::new();
    let states: Vec<Vec<u8>> = (0..=OUTCOMES).map(|n| reference.after(n)).collect();
    let whole = fs::read(log_path(&path)).unwrap();
    // Without writing: the epoch stays as it is.
    let opened = |log: &[u8], what: &str| {
        fs::write(log_path(&path), log).unwrap();
        LedgerFile::open(&path).map(|(file, ledger)| {
            let outcomes = file.about().outcomes as usize;
            assert_eq!(bytes(&ledger.state()), states[outcomes], "{what}");
            outcomes
        })
    };
    assert_eq!(opened(&whole, "whole").unwrap(), OUTCOMES as usize);
    for length in (0..whole.len()).step_by(whole.len() / 24) {
        let what = format!("cut to {length} bytes");
        let outcomes = opened(&whole[..length], &what).unwrap();
        assert!((committed..OUTCOMES as usize).contains(&outcomes), "{what}");
    }
    for at in (0..whole.len()).step_by(whole.len() / 48) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        // What is left of the last entry cannot be told from one that was being written.
        match opened(&damaged, &format!("byte {at}")) {
            Ok(outcomes) => assert_eq!(outcomes, OUTCOMES as usize - 1, "byte {at}"),
            Err(LedgerError::DamagedLog { .. } | LedgerError::ForeignLog { .. }) => {}
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
    fs::write(log_path(&path), &whole).unwrap();
}

#[test]
fn a_log_of_another_time_is_refused() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("trust.redb");
    left_by_a_kill(&path, 40);
    let earlier = copied(&path, "earlier.redb");
    let log = fs::read(log_path(&path)).unwrap();
    // Going on takes the log in and ends an epoch: the log of then is in it already.
    drop(open_for(&path).unwrap());
    fs::write(log_path(&path), &log).unwrap();
    assert_eq!(LedgerFile::open(&path).unwrap().0.about().outcomes, 40);
    // An epoch further it goes on from nothing that is there.
    let (mut file, mut ledger) = open_for(&path).unwrap();
    let outcome = outcome(40);
    ledger.learn(&outcome).unwrap();
    file.log(&outcome).unwrap();
    file.close(&ledger.state()).unwrap();
    drop(file);
    assert!(!log_path(&path).exists(), "a closed ledger is one file");
    // What is only looked at is not written to.
    let (mut file, ledger) = LedgerFile::open(&earlier).unwrap();
    let before = fs::read(log_path(&earlier)).unwrap();
    assert!(file.log(&outcome).is_err() && file.commit(&ledger.state()).is_err());
    drop(file);
    assert_eq!(fs::read(log_path(&earlier)).unwrap(), before);
    fs::write(log_path(&path), &log).unwrap();
    let refused = LedgerFile::open(&path).err().unwrap();
    assert!(
        matches!(refused, LedgerError::ForeignLog { .. }),
        "{refused}"
    );
    // Nor is a new ledger made where a log was left.
    fs::remove_file(&path).unwrap();
    let refused = open_for(&path).err().unwrap();
    assert!(
        matches!(refused, LedgerError::ForeignLog { .. }),
        "{refused}"
    );
    // The ledger of then and its log still belong together.
    assert_eq!(LedgerFile::open(&earlier).unwrap().0.about().outcomes, 40);
}

#[test]
fn what_cannot_be_kept_is_an_error_and_nothing_is_kept_after_it() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("trust.redb");
    let (mut file, mut ledger) = open_for(&path).unwrap();
    let first = outcome(0);
    ledger.learn(&first).unwrap();
    file.log(&first).unwrap();
    // A folder is in the log's place: it cannot be begun anew.
    fs::remove_file(log_path(&path)).unwrap();
    fs::create_dir(log_path(&path)).unwrap();
    assert!(file.commit(&ledger.state()).is_err());
    for _ in 0..2 {
        let message = file.log(&outcome(1)).unwrap_err().to_string();
        assert!(message.contains("nothing more is kept"), "{message}");
    }
    drop(file);
    fs::remove_dir(log_path(&path)).unwrap();
    let (file, _) = LedgerFile::open(&path).unwrap();
    assert_eq!(file.about().outcomes, 1);
}
