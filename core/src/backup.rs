//! Backups (PROTOCOL §7 `POST /v1/backups/{name}`): what is stored at one moment, written to a file while the
//! daemon goes on; and how a store that is made of one begins.

use crate::Core;
use crate::deadlines::Timer;
use crate::effect::{Content, Effect, Effects};
use crate::ids::{BackupName, ConnId};
use crate::input::NoBackup;
use crate::record::RowKey;
use crate::wire::error::{Code, Refusal};
use crate::wire::json::Object;
use alloc::format;
use bytes::Bytes;

/// A backup that is being written.
#[derive(Debug)]
pub(crate) struct Backup {
    name: BackupName,
    /// Who waits for it, and may be gone.
    conn: ConnId,
}

/// What a row of a backup becomes in a store that is made of it, if that is another: each stream has a new
/// epoch, made of `random`, so that no client takes the past for the present.
pub fn restored(key: &RowKey, row: &[u8], random: u64) -> Option<Bytes> {
    crate::stream::renewed(key, row, random)
}

impl Core {
    /// An operator asks for a backup.
    pub(crate) fn on_backup(&mut self, id: ConnId, name: BackupName, out: &mut Effects) {
        if let Some(under_way) = &self.backup {
            let message =
                format!("the backup `{}` is being written, and there is one at a time", under_way.name);
            let refusal = Refusal::new(Code::Overloaded, message, "try again when it is done").retry(5_000);
            return self.respond_refusal(id, &refusal, out);
        }
        // It takes as long as it takes.
        self.deadlines.clear(Timer::Answer(id));
        out.push(Effect::Backup { name: name.clone() });
        self.backup = Some(Backup { name, conn: id });
    }

    /// A backup is written, or cannot be.
    pub(crate) fn on_backed_up(&mut self, outcome: Result<u64, NoBackup<&str>>, out: &mut Effects) {
        let Backup { name, conn } = self.backup.take().expect("an answer belongs to a question");
        if !self.conns.contains_key(&conn) {
            return;
        }
        let refusal = match outcome {
            Ok(bytes) => {
                let answer = Object::new().str("backup", name.as_str()).raw("bytes", bytes);
                return self.respond(conn, 201, Content::Json(answer.finish()), out);
            }
            Err(NoBackup::There) => {
                let message = format!("the backup `{name}` is there, and nothing is written over");
                Refusal::new(Code::BackupExists, message, "take another name, or move that one away")
            }
            Err(NoBackup::Failed(why)) => {
                Refusal::new(Code::StorageUnavailable, why, "see that the disk has room, and try again")
            }
        };
        self.respond_refusal(conn, &refusal, out);
    }
}
