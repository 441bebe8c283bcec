//! The template of a bundle: the file server with files in it instead of a directory of the host's. The core module
//! imports one function of nobody's, which reads a passive segment, and the standard library imports what not every
//! HTTP host has. Functions in the module take the place of these imports, and the module then becomes a component.

use wasm_encoder::reencode::{self, Reencode, RoundtripReencoder};
use wasm_encoder::{
    CodeSection, DataCountSection, DataSection, Function, FunctionSection, ImportSection, MemArg,
    Module, SectionId,
};
use wasmparser::{
    CodeSectionReader, CustomSectionReader, DataSectionReader, FunctionSectionReader,
    ImportSectionReader, Imports, Parser, Payload, TypeRef,
};
use wit_component::ComponentEncoder;

/// The function that takes the place of an import.
#[derive(Clone, Copy, Debug)]
enum Stub {
    /// `(start, into, length)`: copies bytes of the passive segment.
    ReadSegment,
    /// `(result)`: returns an empty list.
    EmptyList,
    /// `(result)`: returns `none`.
    Nothing,
    /// A trap: the function is never called, or only to end the instance.
    Trap,
}

/// The source of the environment that a component sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Environment {
    /// The host, which not every HTTP host is for.
    Host,
    /// Nobody: there is none.
    Nobody,
}

/// The interface that an environment comes from.
const ENVIRONMENT: &str = "wasi:cli/environment";

/// The imports that are satisfied, by interface, without its version, and function. All others stay.
const STUBS: [(&str, &str, Stub); 8] = [
    ("bundle", "read", Stub::ReadSegment),
    (ENVIRONMENT, "get-environment", Stub::EmptyList),
    ("wasi:cli/exit", "exit", Stub::Trap),
    (
        "wasi:cli/terminal-input",
        "[resource-drop]terminal-input",
        Stub::Trap,
    ),
    (
        "wasi:cli/terminal-output",
        "[resource-drop]terminal-output",
        Stub::Trap,
    ),
    (
        "wasi:cli/terminal-stdin",
        "get-terminal-stdin",
        Stub::Nothing,
    ),
    (
        "wasi:cli/terminal-stdout",
        "get-terminal-stdout",
        Stub::Nothing,
    ),
    (
        "wasi:cli/terminal-stderr",
        "get-terminal-stderr",
        Stub::Nothing,
    ),
];

/// Returns the component that `module` becomes, with `content` in its passive segment, the last of the module, and with
/// such an `environment`.
///
/// # Errors
/// In one line, why it does not become one.
pub(crate) fn component(
    module: &[u8],
    content: &[u8],
    environment: Environment,
) -> Result<Vec<u8>, String> {
    let module = satisfy(module, content, environment)
        .map_err(|error| format!("cannot satisfy the imports of the bundle's module: {error}"))?;
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| format!("cannot make a component of the bundle's module: {error:#}"))
}

fn satisfy(
    module: &[u8],
    content: &[u8],
    environment: Environment,
) -> Result<Vec<u8>, reencode::Error> {
    let mut satisfied = Module::new();
    let mut rewriter = Rewriter::new(module, content, environment)?;
    rewriter.parse_core_module(&mut satisfied, Parser::new(0), module)?;
    Ok(satisfied.finish())
}

/// Writes a module again, with stubs as the first functions behind the imports that stay. There are as many functions
/// as before, so that those behind the imports keep their numbers.
struct Rewriter<'c> {
    /// The new numbers of the functions that are imported, by their old numbers.
    functions: Vec<u32>,
    /// The stubs, each with the number of its type.
    stubs: Vec<(Stub, u32)>,
    /// The number of the passive segment, behind all others.
    segment: u32,
    content: &'c [u8],
    environment: Environment,
}

impl<'c> Rewriter<'c> {
    fn new(
        module: &[u8],
        content: &'c [u8],
        environment: Environment,
    ) -> Result<Self, reencode::Error> {
        let (mut found, mut segment) = (Vec::new(), 0);
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        if let TypeRef::Func(kind) = import.ty {
                            found.push((stub(import.module, import.name, environment), kind));
                        }
                    }
                }
                Payload::DataSection(section) => segment = section.count(),
                _ => {}
            }
        }
        let kept = found.iter().filter(|(stub, _)| stub.is_none()).count() as u32;
        let (mut next_kept, mut next_stub) = (0, kept);
        let functions = found.iter().map(|(stub, _)| {
            let next = match stub {
                Some(_) => &mut next_stub,
                None => &mut next_kept,
            };
            *next += 1;
            *next - 1
        });
        Ok(Rewriter {
            functions: functions.collect(),
            stubs: found
                .iter()
                .filter_map(|&(stub, kind)| Some((stub?, kind)))
                .collect(),
            segment,
            content,
            environment,
        })
    }
}

/// Returns what takes the place of the function `name` of the interface `module`, if it does not stay.
fn stub(module: &str, name: &str, environment: Environment) -> Option<Stub> {
    let interface = module.split('@').next();
    let stays = environment == Environment::Host && interface == Some(ENVIRONMENT);
    STUBS
        .iter()
        .find(|stub| !stays && Some(stub.0) == interface && stub.1 == name)
        .map(|stub| stub.2)
}

impl Reencode for Rewriter<'_> {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, reencode::Error> {
        let imported = self.functions.get(function as usize);
        Ok(imported.copied().unwrap_or(function))
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: ImportSectionReader,
    ) -> Result<(), reencode::Error> {
        for import in section.into_imports() {
            let import = import?;
            if stub(import.module, import.name, self.environment).is_none() {
                self.parse_imports(imports, Imports::Single(0, import))?;
            }
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader,
    ) -> Result<(), reencode::Error> {
        for &(_, kind) in &self.stubs {
            functions.function(kind);
        }
        reencode::utils::parse_function_section(self, functions, section)
    }

    /// Puts the number of segments before the code, without which `memory.init` is not valid.
    fn intersperse_section_hook(
        &mut self,
        module: &mut Module,
        after: Option<SectionId>,
        before: Option<SectionId>,
    ) -> Result<(), reencode::Error> {
        if before == Some(SectionId::Code) && after != Some(SectionId::DataCount) {
            let count = self.segment + 1;
            module.section(&DataCountSection { count });
        }
        Ok(())
    }

    fn data_count(&mut self, count: u32) -> Result<u32, reencode::Error> {
        Ok(count + 1)
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: CodeSectionReader,
    ) -> Result<(), reencode::Error> {
        for &(stub, _) in &self.stubs {
            code.function(&body(stub, self.segment));
        }
        reencode::utils::parse_code_section(self, code, section)
    }

    fn parse_data_section(
        &mut self,
        data: &mut DataSection,
        section: DataSectionReader,
    ) -> Result<(), reencode::Error> {
        reencode::utils::parse_data_section(self, data, section)?;
        data.passive(self.content.iter().copied());
        Ok(())
    }

    /// Leaves out names and what debuggers read, and keeps what the component is made by.
    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: CustomSectionReader,
    ) -> Result<(), reencode::Error> {
        match section.name() {
            "name" => Ok(()),
            name if name.starts_with(".debug") => Ok(()),
            _ => reencode::utils::parse_custom_section(&mut RoundtripReencoder, module, section),
        }
    }
}

/// Returns the code of `stub`, which reads the segment number `segment`.
fn body(stub: Stub, segment: u32) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    let word = MemArg {
        offset: 0,
        align: 2,
        memory_index: 0,
    };
    match stub {
        Stub::ReadSegment => code
            .local_get(1)
            .local_get(0)
            .local_get(2)
            .memory_init(0, segment),
        // A place that is aligned for any element, and no element there.
        Stub::EmptyList => code
            .local_get(0)
            .i32_const(8)
            .i32_store(word)
            .local_get(0)
            .i32_const(0)
            .i32_store(MemArg { offset: 4, ..word }),
        Stub::Nothing => code
            .local_get(0)
            .i32_const(0)
            .i32_store8(MemArg { align: 0, ..word }),
        Stub::Trap => code.unreachable(),
    };
    code.end();
    function
}
