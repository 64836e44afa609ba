//! Files and folders that are whole or absent: written beside their place, synced, renamed. spec/guarantees.md, "Output".

use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::{Error, Escaped, Result};

/// How names of unfinished output begin. Whoever writes holds a lock on it, so a later run can tell what was left behind.
const UNFINISHED: &str = ".stitch-tmp-";

/// Where a folder waits that is being replaced, on file systems that cannot exchange two names. Never removed by a later
/// run. [OUT-2]
const REPLACED: &str = ".stitch-old-";

/// A file that appears under its name when it is committed [OUT-2], and leaves nothing when it is dropped before.
#[derive(Debug)]
pub(crate) struct OutputFile {
    file: File,
    /// Where it is meanwhile; none while it has no name at all.
    unfinished: Option<PathBuf>,
    target: PathBuf,
    force: bool,
}

impl OutputFile {
    /// Starts a file. Without `force` an existing target is refused, now and again at the end.
    pub fn create(target: &Path, force: bool) -> Result<Self> {
        let parent = parent_of(target);
        refuse_existing(target, force)?;
        // A device would become a file: /dev/null for everyone.
        if let Some(kind) = std::fs::metadata(target).ok().map(|m| m.file_type()).filter(|kind| !kind.is_file()) {
            let what = if kind.is_dir() { "is a folder, must be a file" } else { "is not a regular file" };
            return Err(Error::Refused(format!("{}: {what}", Escaped(&target.to_string_lossy()))));
        }
        remove_leftovers(&parent);
        let mode = Mode::from_raw_mode(0o666);
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        // A file without a name gets one through /proc.
        let unnamed = match Path::new("/proc/self/fd").exists() {
            true => rustix::fs::open(&parent, flags | OFlags::TMPFILE, mode),
            false => Err(Errno::OPNOTSUPP),
        };
        let (file, unfinished) = match unnamed {
            Ok(fd) => {
                let file = File::from(fd);
                is_locked(&file);
                (file, None)
            }
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) if parent.is_dir() => {
                let create = |path: &Path| {
                    let fd = rustix::fs::open(path, flags | OFlags::CREATE | OFlags::EXCL, mode);
                    Ok(File::from(fd?))
                };
                let (file, path) = locked(&parent, create)?;
                (file, Some(path))
            }
            Err(e) => return Err(Error::io(&parent, e.into())),
        };
        Ok(OutputFile { file, unfinished, target: target.to_owned(), force })
    }

    /// The file to write to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Takes room for `len` bytes, so that a full disk is found before anything is written.
    pub fn reserve(&self, len: u64) -> Result<()> {
        reserve(&self.file, &self.target, len)
    }

    /// Syncs, and gives the file its name.
    pub fn commit(mut self) -> Result<()> {
        let io = |e: Errno| Error::io(&self.target, e.into());
        self.file.sync_all().map_err(|e| Error::io(&self.target, e))?;
        let parent = parent_of(&self.target);
        match self.unfinished.take() {
            Some(path) => {
                let renamed = match self.force {
                    true => rename(&path, &self.target, RenameFlags::empty()),
                    false => rename_new(&path, &self.target),
                };
                if renamed.is_err() {
                    self.unfinished = Some(path);
                }
                renamed?;
            }
            None if self.force => {
                let path = unfinished_path(&parent);
                link_unnamed(&self.file, &path).map_err(io)?;
                self.unfinished = Some(path.clone());
                rename(&path, &self.target, RenameFlags::empty())?;
                self.unfinished = None;
            }
            None => match link_unnamed(&self.file, &self.target) {
                Err(Errno::EXIST) => return Err(exists(&self.target)),
                linked => linked.map_err(io)?,
            },
        }
        sync_folder(&parent)
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some(path) = &self.unfinished {
            drop(std::fs::remove_file(path));
        }
    }
}

/// A folder that appears under its name when it is committed.
#[derive(Debug)]
pub(crate) struct OutputFolder {
    unfinished: PathBuf,
    target: PathBuf,
    force: bool,
    done: bool,
    _lock: File,
}

impl OutputFolder {
    /// Starts a folder. With `force` an existing one is replaced as a whole, if it is the folder of a model.
    pub fn create(target: &Path, force: bool) -> Result<Self> {
        let target: PathBuf = target.components().collect();
        let parent = parent_of(&target);
        if !is_empty_folder(&target) {
            refuse_existing(&target, force)?;
            refuse_foreign(&target)?;
        }
        remove_leftovers(&parent);
        let create = |path: &Path| DirBuilder::new().create(path).and_then(|()| File::open(path));
        let (handle, unfinished) = locked(&parent, create)?;
        Ok(OutputFolder { unfinished, target, force, done: false, _lock: handle })
    }

    /// Creates a file in the folder.
    pub fn file(&self, name: &str) -> Result<File> {
        let path = self.unfinished.join(name);
        let mut options = File::options();
        options.read(true).write(true).create_new(true).open(&path).map_err(|e| Error::io(&path, e))
    }

    /// Where a file of the folder is meanwhile.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.unfinished.join(name)
    }

    /// Syncs every file and the folder, and puts it in its place by one rename or exchange.
    pub fn commit(mut self) -> Result<()> {
        for entry in std::fs::read_dir(&self.unfinished).map_err(|e| Error::io(&self.unfinished, e))? {
            let path = entry.map_err(|e| Error::io(&self.unfinished, e))?.path();
            File::open(&path).and_then(|f| f.sync_all()).map_err(|e| Error::io(&path, e))?;
        }
        sync_folder(&self.unfinished)?;
        if is_empty_folder(&self.target) {
            // An empty folder gives way to a rename, whole.
            rename(&self.unfinished, &self.target, RenameFlags::empty())?;
        } else if self.force && self.target.exists() {
            self.replace()?;
        } else {
            rename_new(&self.unfinished, &self.target)?;
        }
        self.done = true;
        sync_folder(&parent_of(&self.target))
    }

    /// Exchanges the new folder with the old one and removes the old.
    fn replace(&self) -> Result<()> {
        match rustix::fs::renameat_with(CWD, &self.unfinished, CWD, &self.target, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOSYS) => {
                // Not under the name of a leftover: until the new folder is in place, this is the only whole one.
                let aside = numbered(&parent_of(&self.target), REPLACED);
                rename(&self.target, &aside, RenameFlags::empty())?;
                if let Err(e) = rename(&self.unfinished, &self.target, RenameFlags::empty()) {
                    rename(&aside, &self.target, RenameFlags::empty())?;
                    return Err(e);
                }
                return std::fs::remove_dir_all(&aside).map_err(|e| Error::io(&aside, e));
            }
            Err(e) => return Err(Error::io(&self.target, e.into())),
        }
        sync_folder(&parent_of(&self.target))?;
        std::fs::remove_dir_all(&self.unfinished).map_err(|e| Error::io(&self.unfinished, e))
    }
}

impl Drop for OutputFolder {
    fn drop(&mut self) {
        if !self.done {
            drop(std::fs::remove_dir_all(&self.unfinished));
        }
    }
}

/// Writes a small file, whole or not at all.
///
/// # Errors
/// `Refused` where the file exists and `force` is not set; `Io`.
pub fn write_whole(path: &Path, bytes: &[u8], force: bool) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let output = OutputFile::create(path, force)?;
    output.file().write_all_at(bytes, 0).map_err(|e| Error::io(path, e))?;
    output.commit()
}

/// Takes room for a file, so that a full disk is found before anything is written.
pub(crate) fn reserve(file: &File, path: &Path, len: u64) -> Result<()> {
    /// What `statfs` calls a file system in memory.
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    // There, taking room means clearing every page of it, which costs half as much as writing them.
    if let Some(free) = rustix::fs::fstatfs(file).ok().filter(|s| s.f_type == TMPFS_MAGIC) {
        if u64::try_from(free.f_bsize).unwrap_or(0).saturating_mul(free.f_bavail) < len && free.f_blocks > 0 {
            return Err(Error::io(path, Errno::NOSPC.into()));
        }
        return file.set_len(len).map_err(|e| Error::io(path, e));
    }
    let flags = rustix::fs::FallocateFlags::empty();
    match rustix::fs::fallocate(file, flags, 0, len.max(1)) {
        Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => Err(Error::io(path, e.into())),
        // Elsewhere it is only a hint.
        _ => file.set_len(len).map_err(|e| Error::io(path, e)),
    }
}

/// Fails where an output would replace one of the inputs, also through another name. Exit code 2. [OUT-4]
///
/// # Errors
/// `InvalidInput`, with both paths.
pub fn refuse_input<'a>(output: &Path, inputs: impl Iterator<Item = &'a Path>) -> Result<()> {
    let id = |path: &Path| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    let Some(out) = id(output) else { return Ok(()) };
    for input in inputs {
        let inside = output.is_dir() && id(&parent_of(input)) == Some(out);
        if id(input) == Some(out) || inside {
            let detail = format!(
                "the output {} is an input ({}); name another output",
                Escaped(&output.to_string_lossy()),
                Escaped(&input.to_string_lossy())
            );
            return Err(Error::InvalidInput(detail));
        }
    }
    Ok(())
}

/// [OUT-3]
pub(crate) fn refuse_existing(target: &Path, force: bool) -> Result<()> {
    if force || std::fs::symlink_metadata(target).is_err() { Ok(()) } else { Err(exists(target)) }
}

fn exists(target: &Path) -> Error {
    Error::Refused(format!("{}: exists; use --force to replace it", Escaped(&target.to_string_lossy())))
}

/// A folder that holds no model was not written by us, and is not ours to remove.
fn refuse_foreign(target: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(target) else {
        if target.exists() {
            let detail = format!("{}: is a file, must be a folder", Escaped(&target.to_string_lossy()));
            return Err(Error::Refused(detail));
        }
        return Ok(());
    };
    let names: Vec<_> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    let model = names.iter().any(|n| n.ends_with(".safetensors"));
    let folder = std::fs::read_dir(target).into_iter().flatten().flatten().any(|e| e.path().is_dir());
    if model && !folder {
        return Ok(());
    }
    let why = if model { "holds folders" } else { "does not hold a model" };
    let path = target.to_string_lossy();
    Err(Error::Refused(format!("{}: {why}, so --force will not replace it; remove it yourself", Escaped(&path))))
}

fn is_empty_folder(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> Result<()> {
    let done = if flags.is_empty() {
        rustix::fs::rename(from, to)
    } else {
        rustix::fs::renameat_with(CWD, from, CWD, to, flags)
    };
    done.map_err(|e| Error::io(to, e.into()))
}

/// Renames, but never over something that is there.
fn rename_new(from: &Path, to: &Path) -> Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(exists(to)),
        Err(Errno::INVAL | Errno::NOSYS) => {
            refuse_existing(to, false)?;
            rename(from, to, RenameFlags::empty())
        }
        Err(e) => Err(Error::io(to, e.into())),
    }
}

/// Gives a name to a file that has none.
fn link_unnamed(file: &File, path: &Path) -> rustix::io::Result<()> {
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW)
}

fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|f| f.sync_all()).map_err(|e| Error::io(path, e))
}

/// Takes the lock that shows a later run that somebody is still writing. Where locks do not work, leftovers stay, and
/// nothing else depends on them.
fn is_locked(file: impl AsFd) -> bool {
    !matches!(rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive), Err(Errno::AGAIN))
}

/// Creates something unfinished and locks it. Another run may take it for a leftover before the lock is held, so it must
/// still be there afterwards.
fn locked(parent: &Path, create: impl Fn(&Path) -> std::io::Result<File>) -> Result<(File, PathBuf)> {
    let mut last = None;
    for _ in 0..100 {
        let path = unfinished_path(parent);
        match create(&path) {
            Ok(file) => {
                let id = |m: std::fs::Metadata| (m.dev(), m.ino());
                let here = std::fs::symlink_metadata(&path).map(id).ok();
                if is_locked(&file) && here.is_some() && here == file.metadata().map(id).ok() {
                    return Ok((file, path));
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && parent.is_dir() => last = Some(e),
            Err(e) => return Err(Error::io(parent, e)),
        }
    }
    Err(Error::io(
        parent,
        last.unwrap_or_else(|| std::io::Error::other("other runs keep removing what this one creates")),
    ))
}

/// Removes what killed runs left in a folder [OUT-5]: unfinished output that nobody holds a lock on.
fn remove_leftovers(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            continue;
        }
        // Opening anything else could block for ever.
        let plain = entry.file_type().is_ok_and(|t| t.is_file() || t.is_dir());
        let Some(file) = Some(&path).filter(|_| plain).and_then(|p| File::open(p).ok()) else { continue };
        let free = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if free && path.is_dir() {
            drop(std::fs::remove_dir_all(&path));
        } else if free {
            drop(std::fs::remove_file(&path));
        }
    }
}

fn unfinished_path(parent: &Path) -> PathBuf {
    numbered(parent, UNFINISHED)
}

fn numbered(parent: &Path, prefix: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    parent.join(format!("{prefix}{}-{}-{nanos}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}

fn parent_of(target: &Path) -> PathBuf {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
