/**
 * Messages described by their fields, written and read by `protobuf.ts`: one encoding for every value, and whoever
 * does not know a field stops. Used by commands and batch extensions. Lists keep their order; sort where it means
 * nothing.
 */
import { ProtobufError, ProtobufReader, ProtobufWriter } from './protobuf.ts'

/** One field of a message. `initial` is its value when it is absent. */
export interface Field<Value> {
  readonly number: number
  readonly initial: Value
  write(writer: ProtobufWriter, value: Value): void
  /** A repeated field is read once for each element. */
  read(reader: ProtobufReader, before: Value): Value
}

export interface Schema<Message> {
  write(writer: ProtobufWriter, message: Message): void
  /** Throws ProtobufError. */
  read(reader: ProtobufReader): Message
  encode(message: Message): Buffer
  /** Throws ProtobufError. */
  decode(bytes: Buffer): Message
}

export function uint(number: number): Field<number> {
  return {
    number,
    initial: 0,
    write: (writer, value) => writer.uint(number, value),
    read: (reader) => reader.uint(),
  }
}

/** Its absence means something else than zero. */
export function optionalUint(number: number): Field<number | undefined> {
  return {
    number,
    initial: undefined,
    write: (writer, value) => {
      if (value !== undefined) writer.presentUint(number, value)
    },
    read: (reader) => reader.uint(),
  }
}

export function bool(number: number): Field<boolean> {
  return {
    number,
    initial: false,
    write: (writer, value) => writer.bool(number, value),
    read: (reader) => reader.bool(),
  }
}

export function text(number: number): Field<string> {
  return {
    number,
    initial: '',
    write: (writer, value) => writer.text(number, value),
    read: (reader) => reader.text(),
  }
}

export function uints(number: number): Field<readonly number[]> {
  return {
    number,
    initial: [],
    write: (writer, values) => {
      for (const value of values) writer.presentUint(number, value)
    },
    read: (reader, before) => added(before, reader.uint()),
  }
}

export function texts(number: number): Field<readonly string[]> {
  return {
    number,
    initial: [],
    write: (writer, values) => {
      for (const value of values) writer.bytes(number, Buffer.from(value, 'utf8'))
    },
    read: (reader, before) => added(before, reader.text()),
  }
}

export function messages<Element>(number: number, element: Schema<Element>): Field<readonly Element[]> {
  return {
    number,
    initial: [],
    write: (writer, values) => {
      for (const value of values) writer.message(number, (inner) => element.write(inner, value))
    },
    read: (reader, before) => added(before, element.read(new ProtobufReader(reader.bytes()))),
  }
}

/** Into the list that this message began: a new one for each element would cost the square of their number. */
function added<Element>(before: readonly Element[], element: Element): readonly Element[] {
  if (before.length === 0) return [element]
  ;(before as Element[]).push(element)
  return before
}

/** Always written; `initial` is only what a message without it would mean. */
export function nested<Inner>(number: number, inner: Schema<Inner>, initial: Inner): Field<Inner> {
  return {
    number,
    initial,
    write: (writer, value) => writer.message(number, (part) => inner.write(part, value)),
    read: (reader) => inner.read(new ProtobufReader(reader.bytes())),
  }
}

/** One of a few names; `ids` are their numbers, never reused. The first name is the initial value. */
export function choice<Name extends string>(number: number, ids: { readonly [One in Name]: number }): Field<Name> {
  const names = new Map(Object.entries<number>(ids).map(([name, id]) => [id, name as Name]))
  const initial = [...names.values()][0] as Name
  return {
    number,
    initial,
    write: (writer, value) => writer.uint(number, ids[value]),
    read: (reader) => {
      const id = reader.uint()
      const name = names.get(id)
      if (name === undefined) throw new ProtobufError(`field ${number} has the unknown value ${id}`)
      return name
    },
  }
}

export function optionalMessage<Element>(number: number, element: Schema<Element>): Field<Element | null> {
  return {
    number,
    initial: null,
    write: (writer, value) => {
      if (value !== null) writer.message(number, (inner) => element.write(inner, value))
    },
    read: (reader) => element.read(new ProtobufReader(reader.bytes())),
  }
}

/** Fields in any order of their names; their numbers are what counts. */
export function schema<Message>(fields: { readonly [Name in keyof Message]: Field<Message[Name]> }): Schema<Message> {
  const names = (Object.keys(fields) as (keyof Message)[]).sort((a, b) => fields[a].number - fields[b].number)
  const byNumber = new Map(names.map((name) => [fields[name].number, name]))
  const write = (writer: ProtobufWriter, message: Message): void => {
    for (const name of names) fields[name].write(writer, message[name])
  }
  const read = (reader: ProtobufReader): Message => {
    const message = {} as { -readonly [Name in keyof Message]: Message[Name] }
    for (const name of names) message[name] = fields[name].initial
    for (let number = reader.next(); number !== 0; number = reader.next()) {
      const name = byNumber.get(number)
      if (name === undefined) return reader.unknown()
      message[name] = fields[name].read(reader, message[name])
    }
    return message
  }
  return {
    write,
    read,
    encode: (message) => {
      const writer = new ProtobufWriter()
      write(writer, message)
      return writer.finish()
    },
    decode: (bytes) => read(new ProtobufReader(bytes)),
  }
}
