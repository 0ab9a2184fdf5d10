//! Reload while running: when the config file changes, and on SIGHUP.

use std::path::Path;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Editors and orchestrators write a file in several steps; the reload waits until they are done.
const QUIET: Duration = Duration::from_millis(100);

/// Tells of changes to one file. The watch ends when it is dropped.
#[derive(Debug)]
pub struct FileWatch {
    changes: mpsc::Receiver<()>,
    _watcher: RecommendedWatcher,
}

impl FileWatch {
    /// Watches a file. It is the folder that is watched: a file that is replaced or a link that is swapped is another file, and a watch
    /// on the old one would never hear of it.
    ///
    /// # Errors
    /// A folder that cannot be watched.
    pub fn new(path: &Path) -> notify::Result<Self> {
        let (sender, changes) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the file is an event of its own; only changes count. One waiting signal is enough.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = sender.try_send(());
            }
        })?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(Self { changes, _watcher: watcher })
    }

    /// Waits until something in the folder has changed and been quiet for a moment. Never returns once the watch is broken.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        while let Ok(Some(())) = tokio::time::timeout(QUIET, self.changes.recv()).await {}
    }
}
