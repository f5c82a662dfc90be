//! The database's tables: what an epoch is made of. See `docs/ledger.md`.

use std::path::Path;
use std::time::SystemTime;

use redb::{
    CommitError, Database, ReadTransaction, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition, TableError, TransactionError,
};
use sage_actors::protocol::{Module, Tick};
use sage_actors::trust::state::{LedgerState, ModuleHead, ModuleState};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::Cause;
use super::{LedgerError, LedgerSummary, VERSION};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const MODULES: TableDefinition<u8, &[u8]> = TableDefinition::new("modules");
/// By module, layer and expert.
const RECORDS: TableDefinition<(u8, u16, u16), &[u8]> = TableDefinition::new("records");

/// One durable commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Epoch {
    /// Counted from 1.
    pub number: u64,
    /// Outcomes learned until then.
    pub outcomes: u64,
    /// The end of the last step that was learned from.
    pub tick: Tick,
    /// Of this epoch alone: the log that goes on from it bears it too.
    pub stamp: [u8; 16],
    /// Of the epoch before: a log that bears it is in this epoch already.
    pub before: [u8; 16],
}

impl Epoch {
    pub fn first(about: &LedgerSummary) -> Self {
        Self {
            number: 1,
            outcomes: about.outcomes,
            tick: about.tick,
            stamp: stamp(&[0; 16], 1),
            before: [0; 16],
        }
    }

    pub fn next(&self, about: &LedgerSummary) -> Self {
        let number = self.number + 1;
        Self {
            number,
            outcomes: about.outcomes,
            tick: about.tick,
            stamp: stamp(&self.stamp, number),
            before: self.stamp,
        }
    }
}

/// A name that no other epoch of any ledger has.
fn stamp(before: &[u8; 16], number: u64) -> [u8; 16] {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"sage trust ledger epoch 1\0");
    hasher.update(before);
    hasher.update(&number.to_le_bytes());
    hasher.update(&now.unwrap_or_default().as_nanos().to_le_bytes());
    hasher.update(&std::process::id().to_le_bytes());
    let mut stamp = [0; 16];
    hasher.finalize_xof().fill(&mut stamp);
    stamp
}

/// What a database holds.
pub(super) struct Contents {
    pub fingerprint: String,
    pub epoch: Epoch,
    pub state: LedgerState,
}

/// Commits an epoch durably. Rows that are as they were are left alone.
pub(super) fn write(
    db: &Database,
    path: &Path,
    epoch: &Epoch,
    fingerprint: &str,
    state: &LedgerState,
) -> Result<(), LedgerError> {
    put(db, epoch, fingerprint, state).map_err(|cause| LedgerError::database("write", path, cause))
}

fn put(db: &Database, epoch: &Epoch, fingerprint: &str, state: &LedgerState) -> Result<(), Cause> {
    let transaction = db.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert("version", VERSION.to_le_bytes().as_slice())?;
        meta.insert("fingerprint", fingerprint.as_bytes())?;
        meta.insert("epoch", encode(epoch)?.as_slice())?;
        meta.insert("baselines", encode(&state.baselines)?.as_slice())?;
        let mut modules = transaction.open_table(MODULES)?;
        let mut records = transaction.open_table(RECORDS)?;
        for ModuleState { head, records: of } in &state.modules {
            let module = number(head.module);
            modules.insert(module, encode(head)?.as_slice())?;
            for (key, record) in head.keys().zip(of) {
                let (key, row) = ((module, key.layer.layer, key.expert), encode(record)?);
                let same = records.get(key)?.is_some_and(|old| old.value() == row);
                if !same {
                    records.insert(key, row.as_slice())?;
                }
            }
        }
    }
    Ok(transaction.commit()?)
}

/// Reads everything; the version first, so that nothing of another version is misread.
pub(super) fn read(db: &Database, path: &Path) -> Result<Contents, LedgerError> {
    let transaction = db
        .begin_read()
        .map_err(|error| LedgerError::database("read", path, error))?;
    let version = version(&transaction).map_err(|problem| LedgerError::NotALedger {
        path: path.to_owned(),
        problem,
    })?;
    if version != VERSION {
        return Err(LedgerError::Version {
            path: path.to_owned(),
            found: version,
        });
    }
    get(&transaction).map_err(|cause| LedgerError::database("read", path, cause))
}

fn version(transaction: &ReadTransaction) -> Result<u32, String> {
    let meta = transaction
        .open_table(META)
        .map_err(|error| error.to_string())?;
    let version = meta.get("version").map_err(|error| error.to_string())?;
    let version = version.ok_or("it does not say its version")?;
    let bytes = version.value().try_into();
    bytes
        .map(u32::from_le_bytes)
        .map_err(|_| "its version is no number".to_owned())
}

fn get(transaction: &ReadTransaction) -> Result<Contents, Cause> {
    let meta = transaction.open_table(META)?;
    let row = |key: &str| {
        let row = meta.get(key)?;
        row.map(|row| row.value().to_vec())
            .ok_or_else(|| Cause::Damaged(format!("it has no {key}")))
    };
    let fingerprint = String::from_utf8(row("fingerprint")?)
        .map_err(|_| Cause::Damaged("its fingerprint is no text".to_owned()))?;
    let epoch = decode("epoch", &row("epoch")?)?;
    let baselines = decode("baselines", &row("baselines")?)?;
    let records = transaction.open_table(RECORDS)?;
    let mut modules = Vec::new();
    for entry in transaction.open_table(MODULES)?.iter()? {
        let (module, head) = entry?;
        let head: ModuleHead = decode("module", head.value())?;
        let mut of = Vec::new();
        for key in head.keys() {
            let (layer, expert) = (key.layer.layer, key.expert);
            let row = records.get((module.value(), layer, expert))?;
            let name = || format!("record of layer {layer} expert {expert}");
            let row = row.ok_or_else(|| Cause::Damaged(format!("it has no {}", name())))?;
            of.push(decode(&name(), row.value())?);
        }
        modules.push(ModuleState { head, records: of });
    }
    Ok(Contents {
        fingerprint,
        epoch,
        state: LedgerState { baselines, modules },
    })
}

/// A module's number in keys.
fn number(module: Module) -> u8 {
    match module {
        Module::Thinker => 0,
        Module::Talker => 1,
    }
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, Cause> {
    postcard::to_stdvec(value).map_err(|error| Cause::Damaged(error.to_string()))
}

/// The value of all bytes of a row.
fn decode<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, Cause> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(Cause::Damaged(format!(
            "its {name} has {} bytes too many",
            rest.len()
        ))),
        Err(error) => Err(Cause::Damaged(format!("its {name} cannot be: {error}"))),
    }
}

macro_rules! causes {
    ($($error:ty),*) => {$(
        impl From<$error> for Cause {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        }
    )*};
}

causes!(CommitError, StorageError, TableError, TransactionError);
