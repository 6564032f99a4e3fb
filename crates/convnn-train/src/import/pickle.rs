//! A reader for the pickles that `torch.save` writes.
//!
//! A pickle is a program for a stack machine, and it may call whatever it names. This machine calls nothing: every name
//! must be on a list, and a call becomes an object that records the name and the arguments. Objects live in one table
//! and refer to each other by index, so that a shared object is never copied, a cycle is harmless, and a program makes
//! at most one object per instruction. (Candle's reader accepts any name and copies objects whenever they are mentioned,
//! which a small file can abuse.)

use super::names::printable;
use std::collections::HashMap;

/// What a pickle may name: tensors, their storages, dictionaries, and the arguments of a command line.
const NAMES: [&str; 13] = [
    ORDERED_DICT,
    REBUILD_TENSOR,
    REBUILD_PARAMETER,
    NAMESPACE,
    "torch.FloatStorage",
    "torch.DoubleStorage",
    "torch.HalfStorage",
    "torch.BFloat16Storage",
    "torch.LongStorage",
    "torch.IntStorage",
    "torch.ShortStorage",
    "torch.ByteStorage",
    "torch.BoolStorage",
];

const ORDERED_DICT: &str = "collections.OrderedDict";
/// Makes a tensor from a storage, an offset, a shape and a stride.
pub(super) const REBUILD_TENSOR: &str = "torch._utils._rebuild_tensor_v2";
/// Makes a parameter from a tensor.
pub(super) const REBUILD_PARAMETER: &str = "torch._utils._rebuild_parameter";
/// Parsed arguments: plain values by name.
pub(super) const NAMESPACE: &str = "argparse.Namespace";

/// The largest number of objects; a checkpoint of ResNet-50 with its optimizer has about 20,000.
const OBJECTS: usize = 1_000_000;

/// An object's place in the table.
pub(super) type Id = usize;

/// An object, with references into the table.
#[derive(Debug)]
pub(super) enum Object<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    Name(&'static str),
    Tuple(Vec<Id>),
    List,
    Dict(Vec<(Id, Id)>),
    /// A call that was not made; `state` is what `BUILD` would have set.
    Call {
        name: &'static str,
        arguments: Id,
        state: Option<Id>,
    },
    /// What PyTorch keeps outside the pickle, by its description.
    Persistent(Id),
}

/// Every object of a pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    objects: Vec<Object<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// Reads a program to its end; fails with one line that names what it holds besides tensors and plain values.
    pub(super) fn read(program: &'a [u8]) -> Result<Self, String> {
        let mut machine =
            Machine { rest: program, objects: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        while machine.step()? {}
        let root = machine.pop()?;
        Ok(Self { objects: machine.objects, root })
    }

    /// The object that the pickle is of.
    pub(super) const fn root(&self) -> Id {
        self.root
    }

    /// The object at `id`, which must come from this pickle.
    pub(super) fn get(&self, id: Id) -> &Object<'a> {
        &self.objects[id]
    }

    /// The entries of a dictionary, or of the state of a namespace, whose keys are text.
    pub(super) fn entries(&self, id: Id) -> Option<Vec<(&'a str, Id)>> {
        match self.get(id) {
            Object::Dict(entries) => Some(
                entries
                    .iter()
                    .filter_map(|&(key, value)| match self.get(key) {
                        Object::Text(text) => Some((*text, value)),
                        _ => None,
                    })
                    .collect(),
            ),
            Object::Call { name, state: Some(state), .. } if *name == NAMESPACE => match self.get(*state) {
                Object::Dict(_) => self.entries(*state),
                _ => None,
            },
            _ => None,
        }
    }

    /// The members of a tuple.
    pub(super) fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Object::Tuple(members) => Some(members),
            _ => None,
        }
    }
}

struct Machine<'a> {
    rest: &'a [u8],
    objects: Vec<Object<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack at each open mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Executes one instruction; `false` at the end of the program.
    fn step(&mut self) -> Result<bool, String> {
        match self.byte()? {
            0x80 => drop(self.byte()?), // PROTO
            b'c' => self.global()?,
            b'X' => self.text()?,
            b'K' => self.unsigned(1)?,
            b'M' => self.unsigned(2)?,
            b'J' => self.signed(4)?,
            0x8a => self.long()?,
            b'G' => self.float()?,
            b'N' => self.push(Object::None)?,
            0x88 => self.push(Object::Bool(true))?,
            0x89 => self.push(Object::Bool(false))?,
            b')' => self.push(Object::Tuple(Vec::new()))?,
            b']' => self.push(Object::List)?,
            b'}' => self.push(Object::Dict(Vec::new()))?,
            b'(' => self.marks.push(self.stack.len()),
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let members = self.pop_to_mark()?;
                self.push(Object::Tuple(members))?;
            }
            b'a' => {
                self.pop()?;
                self.append()?;
            }
            b'e' => {
                self.pop_to_mark()?;
                self.append()?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            b'R' | 0x81 => self.call()?, // REDUCE, NEWOBJ
            b'b' => self.build()?,
            b'Q' => {
                let description = self.pop()?;
                self.push(Object::Persistent(description))?;
            }
            b'q' => self.put(1)?,
            b'r' => self.put(4)?,
            b'h' => self.fetch(1)?,
            b'j' => self.fetch(4)?,
            b'.' => return Ok(false),
            code => return Err(format!("unexpected pickle opcode {code:#04x}")),
        }
        Ok(true)
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or("the pickle is cut short")?;
        self.rest = rest;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.bytes(1)?[0])
    }

    /// A little-endian number without a sign.
    fn number(&mut self, bytes: usize) -> Result<u32, String> {
        Ok(self.bytes(bytes)?.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte)))
    }

    fn line(&mut self) -> Result<String, String> {
        let end = self.rest.iter().position(|&byte| byte == b'\n').ok_or("the pickle is cut short")?;
        let line = self.bytes(end)?;
        self.byte()?;
        Ok(String::from_utf8_lossy(line).into_owned())
    }

    fn global(&mut self) -> Result<(), String> {
        let full = format!("{}.{}", self.line()?, self.line()?);
        match NAMES.iter().find(|&&name| name == full) {
            Some(name) => self.push(Object::Name(name)),
            None => Err(format!(
                "the pickle names {}, which is not a tensor type; expected a file that \
                 torch.save(model.state_dict(), FILE) writes",
                printable(&full)
            )),
        }
    }

    fn text(&mut self) -> Result<(), String> {
        let length = self.number(4)? as usize;
        let text = std::str::from_utf8(self.bytes(length)?).map_err(|_| "the pickle holds text that is not UTF-8")?;
        self.push(Object::Text(text))
    }

    fn unsigned(&mut self, bytes: usize) -> Result<(), String> {
        let number = self.number(bytes)?;
        self.push(Object::Int(number.into()))
    }

    /// A little-endian number in two's complement, of at most 8 bytes.
    fn signed(&mut self, count: usize) -> Result<(), String> {
        let bytes = self.bytes(count)?;
        let start = if bytes.last().is_some_and(|&byte| byte >= 0x80) { -1 } else { 0 };
        self.push(Object::Int(bytes.iter().rev().fold(start, |number: i64, &byte| number << 8 | i64::from(byte))))
    }

    fn long(&mut self) -> Result<(), String> {
        match usize::from(self.byte()?) {
            count @ 0..=8 => self.signed(count),
            count => Err(format!("the pickle holds an integer of {count} bytes; expected at most 8")),
        }
    }

    fn float(&mut self) -> Result<(), String> {
        let bits = self.bytes(8)?.iter().fold(0, |bits, &byte| bits << 8 | u64::from(byte));
        self.push(Object::Float(f64::from_bits(bits)))
    }

    fn push(&mut self, object: Object<'a>) -> Result<(), String> {
        if self.objects.len() >= OBJECTS {
            return Err(format!("the pickle makes more than {OBJECTS} objects"));
        }
        self.stack.push(self.objects.len());
        self.objects.push(object);
        Ok(())
    }

    /// The top of the stack, if it lies above the last mark.
    fn pop(&mut self) -> Result<Id, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = if self.stack.len() > floor { self.stack.pop() } else { None };
        top.ok_or_else(|| "the pickle's stack is empty".to_owned())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let height = self.marks.pop().ok_or("the pickle has no open mark")?;
        Ok(self.stack.split_off(height))
    }

    /// The object on top, which stays there.
    fn top(&mut self) -> Result<&mut Object<'a>, String> {
        let top = self.pop()?;
        self.stack.push(top);
        Ok(&mut self.objects[top])
    }

    fn tuple(&mut self, count: usize) -> Result<(), String> {
        let mut members = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        members.reverse();
        self.push(Object::Tuple(members))
    }

    /// Lists hold nothing that an import reads, so their members are dropped.
    fn append(&mut self) -> Result<(), String> {
        match self.top()? {
            Object::List => Ok(()),
            _ => Err("the pickle appends to something that is not a list".to_owned()),
        }
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), String> {
        let pairs = items.chunks_exact(2);
        match self.top()? {
            Object::Dict(entries) if pairs.remainder().is_empty() => {
                entries.extend(pairs.map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            _ => Err("the pickle sets items of something that is not a dictionary".to_owned()),
        }
    }

    fn call(&mut self) -> Result<(), String> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        match self.objects[callable] {
            Object::Name(ORDERED_DICT) => self.push(Object::Dict(Vec::new())),
            Object::Name(name) => self.push(Object::Call { name, arguments, state: None }),
            _ => Err("the pickle calls something that is not a name".to_owned()),
        }
    }

    fn build(&mut self) -> Result<(), String> {
        let given = self.pop()?;
        match self.top()? {
            // The attributes of an ordered dictionary, such as `_metadata`.
            Object::Dict(_) => Ok(()),
            Object::Call { name: NAMESPACE, state, .. } => {
                *state = Some(given);
                Ok(())
            }
            _ => Err("the pickle sets the state of something that has none".to_owned()),
        }
    }

    fn put(&mut self, bytes: usize) -> Result<(), String> {
        let key = self.number(bytes)?;
        let top = self.pop()?;
        self.stack.push(top);
        self.memo.insert(key, top);
        Ok(())
    }

    fn fetch(&mut self, bytes: usize) -> Result<(), String> {
        let key = self.number(bytes)?;
        let id =
            *self.memo.get(&key).ok_or_else(|| format!("the pickle refers to object {key}, which it never made"))?;
        self.stack.push(id);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{OBJECTS, Object, Pickle};

    #[track_caller]
    fn refusal(program: &[u8]) -> String {
        Pickle::read(program).unwrap_err()
    }

    #[test]
    fn names_off_the_list_are_refused() {
        Pickle::read(b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01.").unwrap();
        let line = refusal(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.");
        assert!(line.starts_with("the pickle names os.system, which is not a tensor type"), "{line}");
        assert!(refusal(b"c__builtin__\neval\n.").contains(" __builtin__.eval,"));
        assert!(refusal(b"c\x1b[2J\nx\n.").contains("\\u{1b}[2J.x"));
        assert!(refusal(b"cargparse\nArgumentParser\n.").contains("argparse.ArgumentParser"));
    }

    /// The opcodes that find a class in other ways, and those of later protocols.
    #[test]
    fn other_opcodes_are_refused() {
        assert_eq!(refusal(b"X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93."), "unexpected pickle opcode 0x93");
        assert_eq!(refusal(b"(ios\nsystem\n."), "unexpected pickle opcode 0x69");
        assert_eq!(refusal(b"\x82\x01."), "unexpected pickle opcode 0x82");
    }

    #[test]
    fn a_namespace_is_plain_values_by_name() {
        let program =
            b"\x80\x02cargparse\nNamespace\n)\x81}(X\x01\x00\x00\x00kK\x09X\x01\x00\x00\x00nJ\xff\xff\xff\xff\
            X\x01\x00\x00\x00lG\x3f\xe0\x00\x00\x00\x00\x00\x00X\x01\x00\x00\x00s](K\x01K\x02eub.";
        let pickle = Pickle::read(program).unwrap();
        let entries = pickle.entries(pickle.root()).unwrap();
        let names: Vec<_> = entries.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["k", "n", "l", "s"]);
        assert!(matches!(pickle.get(entries[0].1), Object::Int(9)));
        assert!(matches!(pickle.get(entries[1].1), Object::Int(-1)));
        assert!(matches!(pickle.get(entries[2].1), Object::Float(0.5)));
        // Only a namespace has a state.
        assert!(refusal(b"ctorch\nFloatStorage\n)R}b.").contains("has none"));
    }

    /// A dictionary that is filled after it was remembered is the same one everywhere.
    #[test]
    fn shared_objects_stay_shared() {
        let pickle = Pickle::read(b"}q\x00X\x01\x00\x00\x00aK\x01sX\x01\x00\x00\x00bh\x00s.").unwrap();
        let entries = pickle.entries(pickle.root()).unwrap();
        assert_eq!(entries[1].1, pickle.root(), "a cycle");
        assert_eq!(pickle.entries(entries[1].1).unwrap().len(), 2);
    }

    #[test]
    fn a_small_file_cannot_make_much() {
        // Each tuple holds the one before twice: 2^40 leaves, 80 objects.
        let mut bomb = b"\x80\x02Nq\x00".to_vec();
        for place in 1..40u8 {
            bomb.extend([b'h', place - 1, b'h', place - 1, 0x86, b'q', place]);
        }
        bomb.push(b'.');
        assert!(Pickle::read(&bomb).unwrap().objects.len() < 100);
        let deep = [&b"N"[..], &vec![0x85; 500_000], b"."].concat();
        Pickle::read(&deep).unwrap();
        let many = vec![b'N'; OBJECTS + 1];
        assert_eq!(refusal(&many), "the pickle makes more than 1000000 objects");
        assert_eq!(refusal(b"X\xff\xff\xff\xff."), "the pickle is cut short");
        assert!(refusal(b"\x8a\xff.").contains("an integer of 255 bytes"));
    }

    #[test]
    fn every_cut_and_odd_program_ends_in_a_line() {
        let whole = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00aq\x02K\x01u.";
        Pickle::read(whole).unwrap();
        for end in 0..whole.len() {
            refusal(&whole[..end]);
        }
        for program in
            [&b"t."[..], b"u.", b"R.", b"(R.", b"h\x05.", b"q\x00.", b"NNb.", b"NNa.", b"}(Nu.", b"N(0.", b"(."]
        {
            refusal(program);
        }
    }
}
