//! A look at a pickle before it is read: nothing but tensors, and no more of anything than the file can hold.
//!
//! A pickle is a program for a stack machine, and what it names it may call. Candle's reader calls nothing, but it
//! takes every name without a word, and copies whatever the program tells it to as often as it is told. So the program
//! is walked through first: every name must be one that PyTorch writes for tensors, and objects are counted with their
//! copies.

/// Names that PyTorch writes for a state dictionary: tensors, their storages and dictionaries.
const ALLOWED: [(&str, &str); 12] = [
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "FloatStorage"),
    ("torch", "DoubleStorage"),
    ("torch", "HalfStorage"),
    ("torch", "BFloat16Storage"),
    ("torch", "LongStorage"),
    ("torch", "IntStorage"),
    ("torch", "ShortStorage"),
    ("torch", "ByteStorage"),
    ("torch", "BoolStorage"),
];

/// The largest number of objects, copies included; a checkpoint of ResNet-50 with its optimizer has some 20,000.
const OBJECTS: u64 = 4_000_000;

/// The deepest nesting of objects.
const DEPTH: u32 = 64;

/// What the machine's stack holds, as far as it matters here.
#[derive(Clone, Copy)]
enum Item {
    Mark,
    Object(Size),
}

/// How large an object is, and how deep.
#[derive(Clone, Copy)]
struct Size {
    objects: u64,
    depth: u32,
}

const LEAF: Size = Size { objects: 1, depth: 1 };

/// Fails unless `program` makes nothing but tensors, in dictionaries, lists and tuples.
///
/// # Errors
/// One line that names what else it would make.
pub(super) fn check(program: &[u8]) -> Result<(), String> {
    let mut machine = Machine { rest: program, stack: Vec::new(), memo: Default::default(), copied: 0 };
    while machine.step()? {}
    Ok(())
}

struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Item>,
    memo: std::collections::HashMap<u32, Size>,
    /// Objects copied to and from the memo.
    copied: u64,
}

impl Machine<'_> {
    /// Follows one instruction; `false` at the end of the program.
    fn step(&mut self) -> Result<bool, String> {
        match self.bytes(1)?[0] {
            0x80 => drop(self.bytes(1)?), // protocol
            b'c' => self.name()?,         // global
            b'X' => self.string()?,       // binary string
            b'K' => self.leaf(1)?,        // numbers
            b'M' => self.leaf(2)?,
            b'J' => self.leaf(4)?,
            b'G' => self.leaf(8)?,
            0x8a => self.long()?,
            0x88 | 0x89 | b'N' | b')' | b']' | b'}' => self.leaf(0)?, // true, false, none and empty collections
            b'(' => self.stack.push(Item::Mark),
            b't' => self.gather(0)?,                              // tuple
            0x85 | b'Q' => self.combine(1)?,                      // tuple of one, tensor's storage
            0x86 | b'R' | 0x81 | b'b' | b'a' => self.combine(2)?, // tuple of two, call, new, build, append
            0x87 | b's' => self.combine(3)?,                      // tuple of three, item of a dictionary
            b'e' | b'u' => self.gather(1)?,                       // items of a list, of a dictionary
            b'q' => self.put(1)?,
            b'r' => self.put(4)?,
            b'h' => self.get(1)?,
            b'j' => self.get(4)?,
            b'.' => return Ok(false),
            code => {
                return Err(format!("instruction {code:#04x} of the pickle is none that PyTorch writes for tensors"));
            }
        }
        Ok(true)
    }

    fn bytes(&mut self, count: usize) -> Result<&[u8], String> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or("the pickle ends too early")?;
        self.rest = rest;
        Ok(bytes)
    }

    fn number(&mut self, bytes: usize) -> Result<u32, String> {
        Ok(self.bytes(bytes)?.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte)))
    }

    fn name(&mut self) -> Result<(), String> {
        let mut line = || {
            let end = self.rest.iter().position(|&byte| byte == b'\n').ok_or("the pickle ends too early")?;
            let line = String::from_utf8_lossy(&self.rest[..end]).into_owned();
            self.rest = &self.rest[end + 1..];
            Ok::<_, String>(line)
        };
        let (module, name) = (line()?, line()?);
        if !ALLOWED.contains(&(&module, &name)) {
            // What a hostile file names is shown without what could steer a terminal.
            let shown = format!("{module}.{name}").escape_debug().take(120).collect::<String>();
            return Err(format!(
                "the pickle names `{shown}`; expected tensors alone, as torch.save(model.state_dict(), FILE) writes them"
            ));
        }
        self.push(LEAF)
    }

    fn string(&mut self) -> Result<(), String> {
        let length = self.number(4)? as usize;
        self.bytes(length)?;
        self.push(LEAF)
    }

    fn long(&mut self) -> Result<(), String> {
        let length = self.number(1)? as usize;
        if length > 8 {
            return Err(format!("the pickle holds a number of {length} bytes; expected at most 8"));
        }
        self.leaf(length)
    }

    fn leaf(&mut self, bytes: usize) -> Result<(), String> {
        self.bytes(bytes)?;
        self.push(LEAF)
    }

    fn push(&mut self, size: Size) -> Result<(), String> {
        if size.depth > DEPTH {
            return Err(format!("the pickle nests objects more than {DEPTH} deep"));
        }
        self.stack.push(Item::Object(size));
        Ok(())
    }

    fn pop(&mut self) -> Result<Size, String> {
        match self.stack.pop() {
            Some(Item::Object(size)) => Ok(size),
            _ => Err("the pickle takes an object from an empty stack".to_owned()),
        }
    }

    /// One object of the last `count`.
    fn combine(&mut self, count: usize) -> Result<(), String> {
        let mut whole = Size { objects: 1, depth: 0 };
        for _ in 0..count {
            whole.take(self.pop()?);
        }
        self.push(whole.wrapped())
    }

    /// One object of all since the mark, and of `before` more.
    fn gather(&mut self, before: usize) -> Result<(), String> {
        let mut whole = Size { objects: 1, depth: 0 };
        while !matches!(self.stack.last(), Some(Item::Mark)) {
            whole.take(self.pop()?);
        }
        self.stack.pop();
        for _ in 0..before {
            whole.take(self.pop()?);
        }
        self.push(whole.wrapped())
    }

    fn put(&mut self, bytes: usize) -> Result<(), String> {
        let place = self.number(bytes)?;
        let size = self.pop()?;
        self.count(size)?;
        self.memo.insert(place, size);
        self.push(size)
    }

    fn get(&mut self, bytes: usize) -> Result<(), String> {
        let place = self.number(bytes)?;
        let size =
            *self.memo.get(&place).ok_or_else(|| format!("the pickle asks for object {place}, which is none"))?;
        self.count(size)?;
        self.push(size)
    }

    fn count(&mut self, copied: Size) -> Result<(), String> {
        self.copied = self.copied.saturating_add(copied.objects);
        match self.copied <= OBJECTS {
            true => Ok(()),
            false => Err(format!("the pickle makes more than {OBJECTS} objects")),
        }
    }
}

impl Size {
    const fn take(&mut self, part: Self) {
        self.objects = self.objects.saturating_add(part.objects);
        self.depth = if part.depth > self.depth { part.depth } else { self.depth };
    }

    const fn wrapped(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::check;

    #[test]
    fn names_are_checked_and_nothing_is_called() {
        check(b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01.").unwrap();
        let line = check(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.").unwrap_err();
        assert!(line.starts_with("the pickle names `os.system`; expected tensors alone"), "{line}");
        let line = check(b"c__builtin__\neval\n.").unwrap_err();
        assert!(line.contains("`__builtin__.eval`"), "{line}");
        let line = check(b"c\x1b[2J\nx\n.").unwrap_err();
        assert!(line.contains("\\u{1b}[2J.x"), "{line}");
    }

    /// The instructions that find a class by other ways are none that PyTorch writes.
    #[test]
    fn other_instructions_are_refused() {
        for program in [&b"X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93."[..], b"(ios\nsystem\n.", b"\x82\x01."] {
            let line = check(program).unwrap_err();
            assert!(line.contains("is none that PyTorch writes"), "{line}");
        }
    }

    #[test]
    fn a_small_file_cannot_make_much() {
        // Each tuple holds the one before twice.
        let mut bomb = b"\x80\x02Nq\x00".to_vec();
        for place in 1..40u8 {
            bomb.extend([b'h', place - 1, b'h', place - 1, 0x86, b'q', place]);
        }
        bomb.push(b'.');
        assert_eq!(check(&bomb).unwrap_err(), "the pickle makes more than 4000000 objects");
        let deep = [&b"N"[..], &[0x85; 100], b"."].concat();
        assert_eq!(check(&deep).unwrap_err(), "the pickle nests objects more than 64 deep");
        assert_eq!(check(b"X\xff\xff\xff\xff.").unwrap_err(), "the pickle ends too early");
        assert!(check(b"\x8a\xff.").unwrap_err().contains("a number of 255 bytes"));
    }

    #[test]
    fn every_cut_and_odd_program_ends_in_a_line() {
        let whole = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00aq\x02K\x01u.";
        check(whole).unwrap();
        for end in 0..whole.len() {
            assert!(check(&whole[..end]).is_err(), "{end} bytes");
        }
        for program in [&b"t."[..], b"u.", b"R.", b"(R.", b"h\x05.", b"q\x00."] {
            assert!(check(program).is_err(), "{program:?}");
        }
    }
}
