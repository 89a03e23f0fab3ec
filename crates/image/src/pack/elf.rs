//! Just enough ELF to tell whether a program runs in an image that has nothing
//! else (System V ABI, "ELF header" and "Program header").

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::PackError;

const MAGIC: &[u8] = b"\x7fELF";
const HEADER_BYTES: usize = 64;
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const TYPE_EXECUTABLE: u16 = 2;
const TYPE_SHARED: u16 = 3;
const PT_INTERP: u32 = 3;
const PROGRAM_HEADERS_MAX: u16 = 1024;

/// Whether the file starts like an ELF file.
pub fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok() && magic == MAGIC)
}

/// Checks that the file is a statically linked program for this machine.
pub fn check(path: &Path) -> Result<(), PackError> {
    let mut file = File::open(path).map_err(PackError::io("open", path))?;
    verdict(&mut file)
        .map_err(PackError::io("read", path))?
        .map_err(|reason| PackError::Executable { path: path.to_owned(), reason })
}

fn verdict(file: &mut (impl Read + Seek)) -> std::io::Result<Result<(), String>> {
    let mut header = [0; HEADER_BYTES];
    if file.read_exact(&mut header).is_err() || !header.starts_with(MAGIC) {
        return Ok(Err("is not an ELF executable".to_owned()));
    }
    let kind = u16_at(&header, 16);
    let machine = u16_at(&header, 18);
    if header[4] != CLASS_64 || header[5] != LITTLE_ENDIAN || machine != machine_here() {
        let here = std::env::consts::ARCH;
        return Ok(Err(format!("is for another processor than this machine's ({here})")));
    }
    if kind != TYPE_EXECUTABLE && kind != TYPE_SHARED {
        return Ok(Err("is an ELF file, but not a program".to_owned()));
    }
    match has_interpreter(file, &header)? {
        true => Ok(Err("is dynamically linked: link it statically or use a Dockerfile".to_owned())),
        false => Ok(Ok(())),
    }
}

fn has_interpreter(
    file: &mut (impl Read + Seek),
    header: &[u8; HEADER_BYTES],
) -> std::io::Result<bool> {
    let offset = u64_at(header, 32);
    let size = u64::from(u16_at(header, 54));
    let count = u16_at(header, 56).min(PROGRAM_HEADERS_MAX);
    for number in 0..u64::from(count) {
        let at = offset.saturating_add(number * size);
        let mut kind = [0; 4];
        file.seek(SeekFrom::Start(at))?;
        if file.read_exact(&mut kind).is_err() {
            break;
        }
        if u32::from_le_bytes(kind) == PT_INTERP {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `e_machine` of this processor.
fn machine_here() -> u16 {
    match std::env::consts::ARCH {
        "x86_64" => 62,
        "aarch64" => 183,
        "riscv64" => 243,
        "powerpc64" => 21,
        "s390x" => 22,
        "loongarch64" => 258,
        _ => 0,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}
