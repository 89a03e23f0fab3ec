//! The bytes of a snapshot: a volume's file copied part by part, and compared part
//! by part when something is made from it.
//!
//! A first pass copies while programs write. Then the file system is frozen, which
//! makes writers wait, and a second pass copies the parts that have changed since:
//! so writers wait for reading and not for writing. Must not know plans.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use sha2::{Digest, Sha256};

/// Size of a part. The last is shorter where the volume is no multiple of it.
pub(super) const PART_BYTES: usize = 4 << 20;

/// How a part of zeros is written down.
pub(super) const ZEROS: &str = "-";

/// Compared with at once to find out whether there are only zeros: byte by byte takes
/// longer than hashing, and writers wait meanwhile.
const BLOCK: [u8; 4096] = [0; 4096];

/// A copy that is made in passes: each writes what has changed since the one before.
pub(super) struct Copy {
    source: File,
    target: File,
    size_bytes: u64,
    /// What is in the target; `None` for parts nobody has looked at, which are zeros.
    parts: Vec<Option<String>>,
}

impl Copy {
    /// Nothing is copied yet.
    pub(super) fn new(source: File, target: File) -> io::Result<Copy> {
        let size_bytes = size(&source)?;
        target.set_len(size_bytes)?;
        let parts = vec![None; count(size_bytes)?];
        Ok(Copy { source, target, size_bytes, parts })
    }

    /// Copies what is new. With a limit it ends with `TimedOut` when that has passed.
    pub(super) fn pass(&mut self, limit: Option<Duration>) -> io::Result<()> {
        let begun = Instant::now();
        let mut buffer = vec![0; PART_BYTES];
        for (index, known) in self.parts.iter_mut().enumerate() {
            let offset = offset_of(index);
            if known.is_none() && is_hole(&self.source, offset)? {
                continue;
            }
            if limit.is_some_and(|limit| begun.elapsed() > limit) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let part = read_part(&self.source, offset, self.size_bytes, &mut buffer)?;
            let is = hash(part);
            if known.as_deref().unwrap_or(ZEROS) != is {
                self.target.write_all_at(part, offset)?;
            }
            *known = Some(is);
        }
        Ok(())
    }

    /// Puts it on the disk; the size of the volume and the hash of each part.
    pub(super) fn finish(self) -> io::Result<(u64, Vec<String>)> {
        self.target.sync_all()?;
        let parts = self.parts.into_iter();
        Ok((self.size_bytes, parts.map(|part| part.unwrap_or_else(|| ZEROS.to_owned())).collect()))
    }
}

/// How long a file is, or how large a device, whose metadata says zero.
fn size(source: &File) -> io::Result<u64> {
    let mut source = source;
    source.seek(SeekFrom::End(0))
}

/// How many bytes of a file are more than holes, by whole parts.
pub(super) fn data_bytes(file: &File) -> io::Result<u64> {
    let size = size(file)?;
    let mut sum = 0;
    for index in 0..count(size)? {
        if !is_hole(file, offset_of(index))? {
            sum += PART_BYTES as u64;
        }
    }
    Ok(sum)
}

/// How many parts a volume has.
pub(super) fn count(size_bytes: u64) -> io::Result<usize> {
    usize::try_from(size_bytes.div_ceil(PART_BYTES as u64)).map_err(io::Error::other)
}

/// Whether a file has nothing but holes in a part: space that is only set aside is
/// one, too.
fn is_hole(file: &File, offset: u64) -> io::Result<bool> {
    let from = i64::try_from(offset).map_err(io::Error::other)?;
    match lseek(file, from, Whence::SeekData) {
        Ok(next) => Ok(u64::try_from(next).is_ok_and(|next| next >= offset + PART_BYTES as u64)),
        Err(Errno::ENXIO) => Ok(true),
        // A device does not tell.
        Err(Errno::EINVAL) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The bytes of one part.
pub(super) fn read_part<'b>(
    file: &File,
    offset: u64,
    size_bytes: u64,
    buffer: &'b mut [u8],
) -> io::Result<&'b [u8]> {
    let left = usize::try_from(size_bytes.saturating_sub(offset)).unwrap_or(PART_BYTES);
    let part = &mut buffer[..left.min(PART_BYTES)];
    file.read_exact_at(part, offset)?;
    Ok(part)
}

/// Where a part begins.
pub(super) fn offset_of(index: usize) -> u64 {
    index as u64 * PART_BYTES as u64
}

/// Lower-case hex sha256, or the sign for zeros.
pub(super) fn hash(part: &[u8]) -> String {
    if part.chunks(BLOCK.len()).all(|block| *block == BLOCK[..block.len()]) {
        return ZEROS.to_owned();
    }
    hex(&Sha256::digest(part))
}

/// What tells a list of parts from any other.
pub(super) fn hash_of_all(size_bytes: u64, parts: &[String]) -> String {
    let mut all = Sha256::new();
    all.update(format!("helix-snapshot-v1 {size_bytes} {}\n", parts.len()));
    for part in parts {
        all.update(part.as_bytes());
        all.update(b"\n");
    }
    hex(&all.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[(u64, &[u8])], size_bytes: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size_bytes).unwrap();
        content.iter().for_each(|(offset, bytes)| file.write_all_at(bytes, *offset).unwrap());
        file
    }

    const SIZE: u64 = 3 * PART_BYTES as u64 + 5;

    #[test]
    fn the_second_pass_brings_what_changed_since_the_first() {
        let source = file(&[(0, b"first"), (SIZE - 2, b"xy")], SIZE);
        let target = file(&[], 0);
        let mut copy = Copy::new(source.try_clone().unwrap(), target.try_clone().unwrap()).unwrap();
        copy.pass(None).unwrap();
        source.write_all_at(b"other", 0).unwrap();
        source.write_all_at(b"new", offset_of(1)).unwrap();
        source.write_all_at(&[0, 0], SIZE - 2).unwrap();
        copy.pass(None).unwrap();
        let (size, parts) = copy.finish().unwrap();
        assert_eq!(size, SIZE);
        assert_eq!(parts[2..], [ZEROS, ZEROS]);
        let mut buffer = vec![0; PART_BYTES];
        for (index, expected) in parts.iter().enumerate() {
            let offset = offset_of(index);
            let copied = hash(read_part(&target, offset, SIZE, &mut buffer).unwrap());
            assert_eq!(copied, *expected, "part {index}");
            let is = hash(read_part(&source, offset, SIZE, &mut buffer).unwrap());
            assert_eq!(copied, is, "part {index}");
        }
    }

    #[test]
    fn a_pass_ends_at_its_limit() {
        let mut copy = Copy::new(file(&[(0, b"x")], SIZE), file(&[], 0)).unwrap();
        let error = copy.pass(Some(Duration::ZERO)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn the_hash_of_all_tells_order_and_size() {
        let parts = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let first = hash_of_all(8, &parts(&["a", "b"]));
        assert_ne!(first, hash_of_all(8, &parts(&["b", "a"])));
        assert_ne!(first, hash_of_all(9, &parts(&["a", "b"])));
        assert_ne!(first, hash_of_all(8, &parts(&["a", "b", "-"])));
    }
}
