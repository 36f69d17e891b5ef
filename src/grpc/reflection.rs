//! Server reflection without its transport: what tools such as grpcurl ask for.
//!
//! The protocol exists as `v1` and, for older tools, as `v1alpha`. The messages are the same on the
//! wire; one set of answers serves both.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use ringmq_proto::reflection_v1::server_reflection_request::MessageRequest;
use ringmq_proto::reflection_v1::server_reflection_response::MessageResponse;
use ringmq_proto::reflection_v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
};

use crate::wire::status::Code;

/// The contract, ready to be asked about. Made once for an executor; answers copy from it.
#[derive(Debug)]
pub struct Reflection {
    files: Vec<File>,
    /// The index of the file that defines a symbol, by the symbol's full name.
    symbols: HashMap<String, usize>,
    /// Full names of the messages: what could be extended.
    messages: Vec<String>,
    services: Vec<String>,
}

#[derive(Debug)]
struct File {
    name: String,
    encoded: Bytes,
}

impl Reflection {
    /// Reads an encoded `FileDescriptorSet`. One that cannot be decoded describes nothing: the
    /// answers then say that nothing is found.
    #[must_use]
    pub fn new(descriptor_set: &[u8]) -> Self {
        let set = FileDescriptorSet::decode(descriptor_set).unwrap_or_default();
        let mut reflection = Self {
            files: Vec::new(),
            symbols: HashMap::new(),
            messages: Vec::new(),
            services: Vec::new(),
        };
        for file in &set.file {
            reflection.add(file);
        }
        reflection.services.sort_unstable();
        reflection
    }

    /// Answers one message of the stream. Whatever is asked gets an answer: what is not there, or
    /// cannot be understood, gets an error response, and the stream goes on.
    #[must_use]
    pub fn answer(&self, request: &[u8]) -> Bytes {
        let decoded = ServerReflectionRequest::decode(request);
        let response = match &decoded {
            Ok(ServerReflectionRequest {
                message_request: Some(question),
                ..
            }) => self.respond(question),
            Ok(_) => error(
                Code::InvalidArgument,
                "invalid MessageRequest: nothing is asked",
            ),
            Err(_) => error(Code::InvalidArgument, "request cannot be decoded"),
        };
        let original = decoded.ok();
        ServerReflectionResponse {
            valid_host: original
                .as_ref()
                .map(|request| request.host.clone())
                .unwrap_or_default(),
            original_request: original,
            message_response: Some(response),
        }
        .encode_to_vec()
        .into()
    }

    fn respond(&self, question: &MessageRequest) -> MessageResponse {
        match question {
            MessageRequest::FileByFilename(name) => {
                let file = self.files.iter().find(|file| file.name == *name);
                file.map_or_else(|| not_found("file", name), found)
            }
            MessageRequest::FileContainingSymbol(name) => {
                let file = self
                    .symbols
                    .get(name)
                    .and_then(|index| self.files.get(*index));
                file.map_or_else(|| not_found("symbol", name), found)
            }
            // The contract is proto3: there are no extensions.
            MessageRequest::FileContainingExtension(extension) => {
                not_found("extension of", &extension.containing_type)
            }
            MessageRequest::AllExtensionNumbersOfType(name) => {
                if self.messages.contains(name) {
                    let base_type_name = name.clone();
                    MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
                        base_type_name,
                        extension_number: Vec::new(),
                    })
                } else {
                    not_found("message", name)
                }
            }
            MessageRequest::ListServices(_) => {
                let services = self.services.iter().cloned();
                let service = services.map(|name| ServiceResponse { name }).collect();
                MessageResponse::ListServicesResponse(ListServiceResponse { service })
            }
        }
    }

    fn add(&mut self, file: &FileDescriptorProto) {
        let index = self.files.len();
        let package = file.package();
        for message in &file.message_type {
            self.add_message(package, message, index);
        }
        for enumeration in &file.enum_type {
            self.add_enumeration(package, enumeration, index);
        }
        for service in &file.service {
            let name = scoped(package, service.name());
            for method in &service.method {
                self.symbols.insert(scoped(&name, method.name()), index);
            }
            self.symbols.insert(name.clone(), index);
            self.services.push(name);
        }
        let encoded = file.encode_to_vec().into();
        self.files.push(File {
            name: file.name().to_owned(),
            encoded,
        });
    }

    fn add_message(&mut self, scope: &str, message: &DescriptorProto, index: usize) {
        let name = scoped(scope, message.name());
        for field in &message.field {
            self.symbols.insert(scoped(&name, field.name()), index);
        }
        for oneof in &message.oneof_decl {
            self.symbols.insert(scoped(&name, oneof.name()), index);
        }
        for nested in &message.nested_type {
            self.add_message(&name, nested, index);
        }
        for enumeration in &message.enum_type {
            self.add_enumeration(&name, enumeration, index);
        }
        self.symbols.insert(name.clone(), index);
        self.messages.push(name);
    }

    fn add_enumeration(&mut self, scope: &str, enumeration: &EnumDescriptorProto, index: usize) {
        self.symbols
            .insert(scoped(scope, enumeration.name()), index);
        // Values live beside their enumeration, not inside it.
        for value in &enumeration.value {
            self.symbols.insert(scoped(scope, value.name()), index);
        }
    }
}

fn scoped(scope: &str, name: &str) -> String {
    if scope.is_empty() {
        name.to_owned()
    } else {
        format!("{scope}.{name}")
    }
}

/// No file of the contract imports another, so one file is the whole answer.
fn found(file: &File) -> MessageResponse {
    MessageResponse::FileDescriptorResponse(FileDescriptorResponse {
        file_descriptor_proto: vec![file.encoded.clone()],
    })
}

fn not_found(what: &str, name: &str) -> MessageResponse {
    error(Code::NotFound, &format!("{what} not found: {name}"))
}

fn error(code: Code, message: &str) -> MessageResponse {
    let error_code = i32::from(code.number());
    MessageResponse::ErrorResponse(ErrorResponse {
        error_code,
        error_message: message.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use ringmq_proto::reflection_v1::ExtensionRequest;
    use ringmq_proto::{FILE_DESCRIPTOR_SET, reflection_v1alpha, service};

    use super::*;

    fn ask(question: MessageRequest) -> MessageResponse {
        let request = ServerReflectionRequest {
            host: "h".to_owned(),
            message_request: Some(question),
        };
        let answer = Reflection::new(FILE_DESCRIPTOR_SET).answer(&request.encode_to_vec());
        let answer = ServerReflectionResponse::decode(answer).unwrap();
        assert_eq!(answer.valid_host, "h");
        assert_eq!(answer.original_request, Some(request));
        answer.message_response.unwrap()
    }

    fn file(response: MessageResponse) -> FileDescriptorProto {
        let MessageResponse::FileDescriptorResponse(response) = response else {
            panic!("no file in {response:?}");
        };
        FileDescriptorProto::decode(response.file_descriptor_proto[0].clone()).unwrap()
    }

    fn code(response: MessageResponse) -> i32 {
        let MessageResponse::ErrorResponse(error) = response else {
            panic!("no error in {response:?}");
        };
        error.error_code
    }

    #[test]
    fn all_services_are_listed() {
        let MessageResponse::ListServicesResponse(list) =
            ask(MessageRequest::ListServices("*".to_owned()))
        else {
            panic!("no list");
        };
        let names: Vec<_> = list
            .service
            .into_iter()
            .map(|service| service.name)
            .collect();
        assert_eq!(
            names,
            [
                service::HEALTH,
                service::REFLECTION_V1,
                service::REFLECTION_V1ALPHA,
                service::KUBEMQ,
            ]
        );
    }

    #[test]
    fn every_sort_of_symbol_leads_to_its_file() {
        for symbol in [
            "kubemq.kubemq",
            "kubemq.kubemq.SendEvent",
            "kubemq.Event",
            "kubemq.Event.Body",
            "kubemq.Event.TagsEntry",
            "kubemq.Subscribe.SubscribeType",
            "kubemq.Subscribe.Events",
            "kubemq.QueuesDownstreamRequestType",
            "kubemq.Get",
        ] {
            let file = file(ask(MessageRequest::FileContainingSymbol(symbol.to_owned())));
            assert_eq!(file.name(), "kubemq.proto", "{symbol}");
        }
        let oneof = "grpc.reflection.v1.ServerReflectionRequest.message_request".to_owned();
        let file = file(ask(MessageRequest::FileContainingSymbol(oneof)));
        assert_eq!(file.name(), "reflection_v1.proto");
    }

    #[test]
    fn files_are_found_by_name_and_need_no_others() {
        for name in [
            "kubemq.proto",
            "health.proto",
            "reflection_v1.proto",
            "reflection_v1alpha.proto",
        ] {
            let file = file(ask(MessageRequest::FileByFilename(name.to_owned())));
            assert_eq!(file.name(), name);
            assert!(file.dependency.is_empty());
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let nope = || "nope".to_owned();
        let not_found = i32::from(Code::NotFound.number());
        assert_eq!(code(ask(MessageRequest::FileByFilename(nope()))), not_found);
        assert_eq!(
            code(ask(MessageRequest::FileContainingSymbol(nope()))),
            not_found
        );
        assert_eq!(
            code(ask(MessageRequest::AllExtensionNumbersOfType(nope()))),
            not_found
        );
        let containing_type = "kubemq.Event".to_owned();
        let extension = ExtensionRequest {
            containing_type,
            extension_number: 100,
        };
        let question = MessageRequest::FileContainingExtension(extension);
        assert_eq!(code(ask(question)), not_found);
    }

    #[test]
    fn a_message_of_the_contract_has_no_extensions() {
        let question = MessageRequest::AllExtensionNumbersOfType("kubemq.Event".to_owned());
        let MessageResponse::AllExtensionNumbersResponse(response) = ask(question) else {
            panic!("no numbers");
        };
        assert_eq!(response.base_type_name, "kubemq.Event");
        assert!(response.extension_number.is_empty());
    }

    #[test]
    fn nonsense_is_answered_with_an_error() {
        let reflection = Reflection::new(FILE_DESCRIPTOR_SET);
        for request in [&[][..], &[0xff], &[0x3a, 1, 0xff]] {
            let answer = ServerReflectionResponse::decode(reflection.answer(request)).unwrap();
            let invalid = i32::from(Code::InvalidArgument.number());
            assert_eq!(code(answer.message_response.unwrap()), invalid);
        }
    }

    #[test]
    fn the_older_version_reads_the_same_answers() {
        use reflection_v1alpha::server_reflection_request::MessageRequest;
        use reflection_v1alpha::server_reflection_response::MessageResponse;

        let request = reflection_v1alpha::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let answer = Reflection::new(FILE_DESCRIPTOR_SET).answer(&request.encode_to_vec());
        let answer = reflection_v1alpha::ServerReflectionResponse::decode(answer).unwrap();
        assert_eq!(answer.original_request, Some(request));
        let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
            panic!("no list");
        };
        assert_eq!(list.service.len(), 4);
    }

    #[test]
    fn an_unreadable_descriptor_set_describes_nothing() {
        let reflection = Reflection::new(&[0xff]);
        let question = Some(MessageRequest::ListServices(String::new()));
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: question,
        };
        let answer = reflection.answer(&request.encode_to_vec());
        let answer = ServerReflectionResponse::decode(answer).unwrap();
        assert_eq!(
            answer.message_response,
            Some(MessageResponse::ListServicesResponse(
                ListServiceResponse::default()
            ))
        );
    }
}
