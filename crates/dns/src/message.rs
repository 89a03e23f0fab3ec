//! The messages: a question for TXT records, and what a server answers.

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, RCODE, TYPE};

/// Records of an answer that are looked at. More is no answer to us.
const RECORDS_MAX: usize = 256;

/// Other names an answer may lead to before it says something: more is a loop.
const ALIASES_MAX: usize = 8;

/// What is asked, and under which number.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Hard to guess, so that only who was asked can answer.
    pub number: u16,
    /// In ASCII, without a final dot.
    pub name: &'a str,
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What the records say, each in one piece. Empty when there are none.
    Texts(Vec<String>),
    /// More than fits: it is to be asked over TCP.
    Truncated,
    /// The server could not find out, and says so by this code.
    Failed(u16),
}

/// Why a message is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("the name cannot be asked for")]
    Name,
    #[error("the answer is not a DNS message")]
    Malformed,
    #[error("the answer is to another question")]
    Differing,
    #[error("the answer has more records than anybody needs")]
    TooMany,
}

impl Question<'_> {
    /// The message that asks.
    pub fn to_bytes(self) -> Result<Vec<u8>, MessageError> {
        let name = Name::new(self.name).map_err(|_| MessageError::Name)?;
        let mut packet = Packet::new_query(self.number);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let (kind, class) = (QTYPE::TYPE(TYPE::TXT), QCLASS::CLASS(CLASS::IN));
        packet.questions.push(simple_dns::Question::new(name, kind, class, false));
        packet.build_bytes_vec().map_err(|_| MessageError::Name)
    }

    /// What a message answers to it.
    pub fn answer(self, bytes: &[u8]) -> Result<Answer, MessageError> {
        let packet = Packet::parse(bytes).map_err(|_| MessageError::Malformed)?;
        let name = Name::new(self.name).map_err(|_| MessageError::Name)?;
        let is_asked = |it: &simple_dns::Question<'_>| {
            it.qname == name
                && it.qtype == QTYPE::TYPE(TYPE::TXT)
                && it.qclass == QCLASS::CLASS(CLASS::IN)
        };
        let is_answer = packet.id() == self.number && packet.has_flags(PacketFlag::RESPONSE);
        if !is_answer || packet.questions.len() != 1 || !packet.questions.iter().all(is_asked) {
            return Err(MessageError::Differing);
        }
        match packet.rcode() {
            _ if packet.has_flags(PacketFlag::TRUNCATION) => Ok(Answer::Truncated),
            RCODE::NoError if packet.answers.len() > RECORDS_MAX => Err(MessageError::TooMany),
            RCODE::NoError => Ok(Answer::Texts(texts(&packet, name))),
            // There is no such name, which is an answer, too.
            RCODE::NameError => Ok(Answer::Texts(Vec::new())),
            other => Ok(Answer::Failed(other as u16)),
        }
    }
}

/// The TXT records of a name, or of what it is another name for.
fn texts(packet: &Packet<'_>, mut name: Name<'_>) -> Vec<String> {
    for _ in 0..ALIASES_MAX {
        let of_name =
            || packet.answers.iter().filter(|it| it.name == name && it.class == CLASS::IN);
        let alias = of_name().find_map(|it| match &it.rdata {
            RData::CNAME(alias) => Some(alias.0.clone().into_owned()),
            _ => None,
        });
        let Some(alias) = alias else {
            let texts = of_name().filter_map(|it| match &it.rdata {
                // What is not text says nothing that anybody asks for.
                RData::TXT(text) => String::try_from(text.clone()).ok(),
                _ => None,
            });
            return texts.collect();
        };
        name = alias;
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{CNAME, TXT};

    use super::*;

    const ASKED: Question<'static> = Question { number: 7, name: "_helix.example.com" };

    /// An answer to what is asked with these records.
    fn reply(records: Vec<(&'static str, RData<'static>)>) -> Packet<'static> {
        let asked = ASKED.to_bytes().unwrap();
        let asked = Packet::parse(&asked).unwrap();
        let mut packet = Packet::new_reply(ASKED.number);
        packet.questions.extend(asked.questions.into_iter().map(simple_dns::Question::into_owned));
        let record =
            |(name, data)| ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, 60, data);
        packet.answers.extend(records.into_iter().map(record));
        packet
    }

    fn text(text: &'static str) -> RData<'static> {
        RData::TXT(TXT::try_from(text).unwrap())
    }

    fn alias(name: &'static str) -> RData<'static> {
        RData::CNAME(CNAME(Name::new_unchecked(name)))
    }

    fn read(packet: &Packet<'_>) -> Result<Answer, MessageError> {
        ASKED.answer(&packet.build_bytes_vec_compressed().unwrap())
    }

    #[test]
    fn the_texts_of_the_name_are_read_whatever_its_case() {
        let records = vec![
            ("_HELIX.example.com", text("helix-domain=1")),
            ("_helix.example.com", text("other")),
            ("_helix.example.org", text("another's")),
        ];
        let texts = vec!["helix-domain=1".to_owned(), "other".to_owned()];
        assert_eq!(read(&reply(records)), Ok(Answer::Texts(texts)));
        let missing = reply(Vec::new());
        assert_eq!(read(&missing), Ok(Answer::Texts(Vec::new())));
    }

    #[test]
    fn aliases_are_followed_and_loops_are_not() {
        let led = vec![
            ("_helix.example.com", alias("proofs.example.net")),
            ("proofs.example.net", text("led here")),
        ];
        assert_eq!(read(&reply(led)), Ok(Answer::Texts(vec!["led here".to_owned()])));
        let round = vec![
            ("_helix.example.com", alias("a.example.com")),
            ("a.example.com", alias("_helix.example.com")),
        ];
        assert_eq!(read(&reply(round)), Ok(Answer::Texts(Vec::new())));
    }

    #[test]
    fn what_does_not_answer_the_question_is_not_believed() {
        let good = || reply(vec![("_helix.example.com", text("x"))]);
        let mut other = good();
        other.set_id(8);
        assert_eq!(read(&other), Err(MessageError::Differing));
        let mut other = good();
        other.remove_flags(PacketFlag::RESPONSE);
        assert_eq!(read(&other), Err(MessageError::Differing));
        let mut other = good();
        other.questions[0].qname = Name::new_unchecked("_helix.example.org");
        assert_eq!(read(&other), Err(MessageError::Differing));
        let mut none = good();
        none.questions.clear();
        assert_eq!(read(&none), Err(MessageError::Differing));
        assert_eq!(ASKED.answer(b"no message"), Err(MessageError::Malformed));
    }

    #[test]
    fn a_server_that_cannot_answer_is_told_from_a_name_without_records() {
        let with = |code| {
            let mut packet = reply(Vec::new());
            *packet.rcode_mut() = code;
            read(&packet)
        };
        assert_eq!(with(RCODE::NameError), Ok(Answer::Texts(Vec::new())));
        assert_eq!(with(RCODE::ServerFailure), Ok(Answer::Failed(2)));
        let mut short = reply(Vec::new());
        short.set_flags(PacketFlag::TRUNCATION);
        assert_eq!(read(&short), Ok(Answer::Truncated));
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ASKED.answer(&bytes);
        }
    }
}
