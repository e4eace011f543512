/**
 * Plain objects of `methods.ts` to protobuf and back, driven by the descriptors that `protos.ts` loads.
 *
 * For control calls, which are few and small. Stricter than the usual library, which accepts cut-off text, replaces
 * broken UTF-8 and rounds large integers without a word: here each of these is INVALID_REQUEST. A decoded object has
 * every plain field (zero, false, empty, [] where the wire had none); message fields and `optional` ones that were
 * not sent are absent.
 */
import { invariant } from '../common/assert.ts'
import { LedgerError } from '../common/errors.ts'
import { encodeMessage, type FieldSink, WireReader } from './wire.ts'

export type ScalarType = 'uint32' | 'uint64' | 'bool' | 'string' | 'bytes'

export interface FieldShape {
  readonly name: string
  readonly number: number
  readonly label: 'plain' | 'optional' | 'repeated' | 'map'
  /** A map's values are text, the only map that is spoken. */
  readonly type: ScalarType | MessageShape
}

export interface MessageShape {
  readonly name: string
  readonly fields: ReadonlyMap<number, FieldShape>
}

export interface ObjectCodec {
  encode(value: unknown): Buffer
  decode(bytes: Buffer): unknown
}

/** For `bytes` methods: what they send is encoded already, what they get they decode themselves. */
export const bytesCodec: ObjectCodec = { encode: (value) => value as Buffer, decode: (bytes) => bytes }

export function objectCodec(shape: MessageShape): ObjectCodec {
  return {
    encode: (value) => encodeMessage((to) => writeObject(to, shape, value)),
    decode: (bytes) => readObject(new WireReader(bytes), shape),
  }
}

type Fields = Record<string, unknown>

function writeObject(to: FieldSink, shape: MessageShape, value: unknown): void {
  if (typeof value !== 'object' || value === null) throw illegal(shape.name, 'an object', value)
  for (const field of shape.fields.values()) {
    const item = (value as Fields)[field.name]
    if (item !== undefined && item !== null) writeField(to, shape, field, item)
  }
}

function writeField(to: FieldSink, shape: MessageShape, field: FieldShape, item: unknown): void {
  const name = `${shape.name}.${field.name}`
  if (field.label === 'repeated') {
    if (!Array.isArray(item)) throw illegal(name, 'a list', item)
    for (const element of item) writeValue(to, name, field, element, true)
  } else if (field.label === 'map') {
    for (const [key, text] of Object.entries(item as Fields)) {
      if (typeof text !== 'string') throw illegal(`${name}.${key}`, 'text', text)
      to.message(field.number, (entry) => {
        entry.text(1, key)
        entry.text(2, text)
      })
    }
  } else {
    writeValue(to, name, field, item, field.label === 'optional')
  }
}

function writeValue(to: FieldSink, name: string, field: FieldShape, item: unknown, always: boolean): void {
  const { type, number } = field
  if (typeof type === 'object') {
    to.message(number, (inner) => writeObject(inner, type, item))
  } else if (type === 'string') {
    if (typeof item !== 'string') throw illegal(name, 'text', item)
    to.text(number, item, always)
  } else if (type === 'bool') {
    if (typeof item !== 'boolean') throw illegal(name, 'true or false', item)
    to.flag(number, item, always)
  } else if (type === 'bytes') {
    if (!Buffer.isBuffer(item)) throw illegal(name, 'a Buffer', item)
    to.blob(number, item.length, (target, at) => item.copy(target, at), always)
  } else {
    const max = type === 'uint32' ? 0xffffffff : Number.MAX_SAFE_INTEGER
    if (!Number.isInteger(item) || (item as number) < 0 || (item as number) > max) {
      throw illegal(name, `an integer from 0 to ${max}`, item)
    }
    to.uint(number, item as number, always)
  }
}

function illegal(name: string, wanted: string, value: unknown): LedgerError {
  const shown = typeof value === 'object' ? typeof value : String(value).slice(0, 40)
  return new LedgerError('INVALID_REQUEST', `${name} must be ${wanted}, not ${shown}`)
}

function readObject(reader: WireReader, shape: MessageShape): Fields {
  const object = emptyObject(shape)
  while (reader.next()) {
    const field = shape.fields.get(reader.field)
    if (field === undefined) reader.skip()
    else if (field.label === 'repeated') (object[field.name] as unknown[]).push(readValue(reader, field))
    else if (field.label === 'map') readMapEntry(reader.message(), object[field.name] as Fields)
    else object[field.name] = readValue(reader, field)
  }
  return object
}

function readValue(reader: WireReader, field: FieldShape): unknown {
  const { type } = field
  if (typeof type === 'object') return readObject(reader.message(), type)
  if (type === 'string') return reader.text()
  if (type === 'bool') return reader.flag()
  if (type === 'bytes') return reader.bytes()
  return type === 'uint32' ? reader.uint32() : reader.uint()
}

function readMapEntry(reader: WireReader, into: Fields): void {
  let key = ''
  let text = ''
  while (reader.next()) {
    if (reader.field === 1) key = reader.text()
    else if (reader.field === 2) text = reader.text()
    else reader.skip()
  }
  into[key] = text
}

function emptyObject(shape: MessageShape): Fields {
  const object: Fields = {}
  for (const { name, label, type } of shape.fields.values()) {
    if (label === 'repeated') object[name] = []
    // Keys come from the wire: without a prototype `__proto__` is a key like any other.
    else if (label === 'map') object[name] = Object.create(null)
    else if (label === 'plain' && typeof type === 'string') object[name] = zeroOf(type)
  }
  return object
}

function zeroOf(type: ScalarType): unknown {
  if (type === 'string') return ''
  if (type === 'bytes') return Buffer.alloc(0)
  return type === 'bool' ? false : 0
}

/** Refuses at load what this codec does not speak, instead of at the first message that has it. */
export function checkShape(shape: MessageShape): void {
  for (const { name, label, type } of shape.fields.values()) {
    const packed = label === 'repeated' && typeof type === 'string' && type !== 'string' && type !== 'bytes'
    invariant(!packed, `${shape.name}.${name}: repeated numbers are not spoken`)
  }
}
