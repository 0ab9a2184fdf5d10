//! Reload while running: when the config file changes, and on SIGHUP.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Editors and orchestrators write a file in several steps; the reload waits until they are done.
const QUIET: Duration = Duration::from_millis(100);

/// Tells of changes to one file. The watch ends when it is dropped.
#[derive(Debug)]
pub struct FileWatch {
    path: PathBuf,
    changes: mpsc::Receiver<()>,
    watcher: RecommendedWatcher,
    /// The folder of the file that a link leads to, where that is another one.
    target: Option<PathBuf>,
}

impl FileWatch {
    /// Watches a file. It is the folder that is watched: a file that is replaced or a link that is swapped is another file, and a watch
    /// on the old one would never hear of it. Where the file is a link, the folder that it leads to is watched as well.
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
        watcher.watch(folder_of(path), RecursiveMode::NonRecursive)?;
        let mut watch = Self { path: path.to_owned(), changes, watcher, target: None };
        watch.follow_link();
        Ok(watch)
    }

    /// Waits until something in the folder has changed and been quiet for a moment. Never returns once the watch is broken.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        while let Ok(Some(())) = tokio::time::timeout(QUIET, self.changes.recv()).await {}
        self.follow_link();
    }

    /// Watches where the link leads by now. A link that leads nowhere keeps the old watch until it leads somewhere again.
    fn follow_link(&mut self) {
        let (Ok(file), Ok(folder)) = (self.path.canonicalize(), folder_of(&self.path).canonicalize()) else { return };
        let target = Some(folder_of(&file)).filter(|target| **target != folder).map(Path::to_owned);
        if target == self.target {
            return;
        }
        if let Some(old) = &self.target {
            // A folder that is gone is watched no more as it is.
            let _ = self.watcher.unwatch(old);
        }
        self.target = target.filter(|target| self.watcher.watch(target, RecursiveMode::NonRecursive).is_ok());
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
