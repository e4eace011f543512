/**
 * Loads `proto/` and gives each method of `methods.ts` its path and its codecs. Used by the gRPC server and channels.
 *
 * The files are found through the `#proto/*` import of package.json, so that sources, `dist` and an installed package
 * find the same ones. Only descriptors are taken from the loader; the bytes are read by our own codecs.
 */
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { loadSync, type PackageDefinition } from '@grpc/proto-loader'
import { invariant } from '../common/assert.ts'
import {
  bytesCodec,
  checkShape,
  type FieldShape,
  type MessageShape,
  type ObjectCodec,
  objectCodec,
  type ScalarType,
} from './object-codec.ts'
import type { StreamMethod, UnaryMethod } from './transport.ts'

// Methods differ in their message types, which nobody here looks at.
// biome-ignore lint/suspicious/noExplicitAny: a list of methods with unrelated messages has no other common type
export type AnyMethod = UnaryMethod<any, any> | StreamMethod<any, any>

export interface MethodWire {
  /** `/ledgermq.v1.Broker/Produce`. */
  readonly path: string
  readonly request: ObjectCodec
  readonly reply: ObjectCodec
}

export interface MethodShapes {
  readonly path: string
  readonly request: MessageShape
  readonly reply: MessageShape
}

const packageName = 'ledgermq.v1'
const files = ['common', 'namesrv', 'broker', 'admin', 'raft']

/** Parsing takes tens of milliseconds and its result never changes: one per process. */
let loaded: ReadonlyMap<string, MethodShapes> | undefined

/** Throws an InvariantError when the protos do not have this method with this kind. */
export function shapesOf(method: AnyMethod): MethodShapes {
  loaded ??= loadMethods(loadDefinition())
  const key = `${method.service}/${method.name}/${method.kind}`
  const shapes = loaded.get(key)
  invariant(shapes !== undefined, `the protos have no ${key}`)
  return shapes
}

export function wireOf(method: AnyMethod): MethodWire {
  const { path, request, reply } = shapesOf(method)
  if (method.kind === 'stream' && method.codec === 'bytes') return { path, request: bytesCodec, reply: bytesCodec }
  return { path, request: objectCodec(request), reply: objectCodec(reply) }
}

function loadMethods(definition: PackageDefinition): ReadonlyMap<string, MethodShapes> {
  const table = new ShapeTable(definition)
  const methods = new Map<string, MethodShapes>()
  for (const [fullName, entry] of Object.entries(definition)) {
    if ('format' in entry) continue
    for (const [name, method] of Object.entries(entry)) {
      invariant(method.requestStream === method.responseStream, `${fullName}.${name} streams in one direction only`)
      methods.set(`${fullName.slice(packageName.length + 1)}/${name}/${method.requestStream ? 'stream' : 'unary'}`, {
        path: method.path,
        request: table.get(nameOf(method.requestType.type)),
        reply: table.get(nameOf(method.responseType.type)),
      })
    }
  }
  return methods
}

export function loadDefinition(): PackageDefinition {
  const anchor = createRequire(import.meta.url).resolve('#proto/ledgermq/v1/common.proto')
  const root = dirname(dirname(dirname(anchor)))
  return loadSync(
    files.map((file) => `ledgermq/v1/${file}.proto`),
    { includeDirs: [root], longs: Number, defaults: true },
  )
}

/** The parts of a DescriptorProto that are read. */
interface Descriptor {
  readonly name: string
  readonly field: readonly {
    readonly name: string
    readonly number: number
    readonly label: string
    readonly type: string
    readonly typeName: string
  }[]
  readonly nestedType: readonly { readonly name: string; readonly options: { readonly mapEntry?: boolean } | null }[]
  readonly oneofDecl: readonly { readonly name: string }[]
}

function nameOf(descriptor: object): string {
  return (descriptor as Descriptor).name
}

const scalarTypes: ReadonlyMap<string, ScalarType> = new Map([
  ['TYPE_UINT32', 'uint32'],
  ['TYPE_UINT64', 'uint64'],
  ['TYPE_BOOL', 'bool'],
  ['TYPE_STRING', 'string'],
  ['TYPE_BYTES', 'bytes'],
])

class ShapeTable {
  readonly #definition: PackageDefinition
  readonly #shapes = new Map<string, MessageShape>()

  constructor(definition: PackageDefinition) {
    this.#definition = definition
  }

  get(name: string): MessageShape {
    const known = this.#shapes.get(name)
    if (known !== undefined) return known
    const entry = this.#definition[`${packageName}.${name}`]
    invariant(entry !== undefined && 'format' in entry, `the protos have no message ${name}`)
    const descriptor = entry.type as Descriptor
    const fields = descriptor.field.map((field) => this.#field(descriptor, field))
    const shape: MessageShape = { name, fields: new Map(fields.map((field) => [field.number, field])) }
    checkShape(shape)
    this.#shapes.set(name, shape)
    return shape
  }

  #field(owner: Descriptor, field: Descriptor['field'][number]): FieldShape {
    const { name, number, type, typeName } = field
    if (type === 'TYPE_MESSAGE') {
      const map = owner.nestedType.some((nested) => nested.name === typeName && nested.options?.mapEntry === true)
      if (map) return { name, number, label: 'map', type: 'string' }
      const label = field.label === 'LABEL_REPEATED' ? 'repeated' : 'plain'
      return { name, number, label, type: this.get(typeName) }
    }
    const scalar = scalarTypes.get(type)
    invariant(scalar !== undefined, `${owner.name}.${name}: ${type} is not spoken`)
    if (field.label === 'LABEL_REPEATED') return { name, number, label: 'repeated', type: scalar }
    // A proto3 `optional` is a oneof of its own, named after the field.
    const optional = owner.oneofDecl.some((oneof) => camelCase(oneof.name) === name)
    return { name, number, label: optional ? 'optional' : 'plain', type: scalar }
  }
}

function camelCase(name: string): string {
  return name.replace(/^_/, '').replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
}
