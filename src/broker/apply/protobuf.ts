/**
 * The little of protobuf that commands and small state rows need, with exactly one encoding for every value.
 *
 * Used in this folder and by `membership/codec.ts`. Fields are written in ascending order by the callers, numbers as minimal varints, zero
 * and empty left out unless presence means something. The reader trusts no length and throws ProtobufError.
 */
import { invariant } from '../../common/assert.ts'

/** These bytes are not a message that the writer could have made. */
export class ProtobufError extends Error {
  override readonly name = 'ProtobufError'
}

const wireVarint = 0
const wireBytes = 2
const varintBytesMax = 8
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export class ProtobufWriter {
  #buffer = Buffer.allocUnsafe(128)
  #length = 0

  /** A non-negative integer up to 2^53; zero is left out. */
  uint(field: number, value: number): void {
    if (value !== 0) this.presentUint(field, value)
  }

  /** As `uint`, but zero is written too: for fields whose absence means something else, and in lists. */
  presentUint(field: number, value: number): void {
    invariant(Number.isSafeInteger(value) && value >= 0, `B1: ${value} cannot be encoded in field ${field}`)
    this.#varint(field * 8 + wireVarint)
    this.#varint(value)
  }

  bool(field: number, value: boolean): void {
    this.uint(field, value ? 1 : 0)
  }

  /** Empty is left out. */
  text(field: number, value: string): void {
    if (value !== '') this.bytes(field, Buffer.from(value, 'utf8'))
  }

  /** Written even when empty: for elements of lists and nested messages. */
  bytes(field: number, value: Buffer): void {
    this.#varint(field * 8 + wireBytes)
    this.#varint(value.length)
    this.#reserve(value.length)
    value.copy(this.#buffer, this.#length)
    this.#length += value.length
  }

  message(field: number, write: (writer: ProtobufWriter) => void): void {
    const writer = new ProtobufWriter()
    write(writer)
    this.bytes(field, writer.finish())
  }

  finish(): Buffer {
    return this.#buffer.subarray(0, this.#length)
  }

  #varint(value: number): void {
    this.#reserve(varintBytesMax)
    let rest = value
    while (rest >= 0x80) {
      this.#buffer[this.#length++] = (rest % 0x80) + 0x80
      rest = Math.floor(rest / 0x80)
    }
    this.#buffer[this.#length++] = rest
  }

  #reserve(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.length) return
    const grown = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#length + bytes))
    this.#buffer.copy(grown, 0, 0, this.#length)
    this.#buffer = grown
  }
}

/** Walks the fields of one message: `next`, then exactly one of `uint`, `bool`, `text`, `bytes`. */
export class ProtobufReader {
  readonly #source: Buffer
  #at = 0
  #wire = wireVarint
  #field = 0

  constructor(source: Buffer) {
    this.#source = source
  }

  /** Number of the next field, 0 at the end. Fields must come in ascending order, as the writer makes them. */
  next(): number {
    if (this.#at === this.#source.length) return 0
    const tag = this.#varint()
    const field = Math.floor(tag / 8)
    if (field < this.#field || field === 0) throw new ProtobufError(`field ${field} is out of order`)
    this.#field = field
    this.#wire = tag % 8
    return field
  }

  uint(): number {
    this.#expect(wireVarint)
    return this.#varint()
  }

  bool(): boolean {
    const value = this.uint()
    if (value > 1) throw new ProtobufError(`field ${this.#field} is not a bool`)
    return value === 1
  }

  text(): string {
    try {
      return utf8.decode(this.bytes())
    } catch (cause) {
      if (cause instanceof ProtobufError) throw cause
      throw new ProtobufError(`field ${this.#field} is not UTF-8`, { cause })
    }
  }

  /** A view of the source. */
  bytes(): Buffer {
    this.#expect(wireBytes)
    const length = this.#varint()
    if (length > this.#source.length - this.#at) throw new ProtobufError(`field ${this.#field} is cut short`)
    this.#at += length
    return this.#source.subarray(this.#at - length, this.#at)
  }

  /** For the branch of a field that the caller does not know. */
  unknown(): never {
    throw new ProtobufError(`field ${this.#field} is unknown`)
  }

  #expect(wire: number): void {
    if (this.#wire !== wire) throw new ProtobufError(`field ${this.#field} has wire type ${this.#wire}, not ${wire}`)
  }

  #varint(): number {
    let value = 0
    let unit = 1
    for (let count = 0; count < varintBytesMax; count++) {
      const byte = this.#source[this.#at++]
      if (byte === undefined) throw new ProtobufError('a number is cut short')
      value += (byte % 0x80) * unit
      if (byte < 0x80) {
        if (byte === 0 && count > 0) throw new ProtobufError('a number is longer than needed')
        if (!Number.isSafeInteger(value)) throw new ProtobufError('a number is beyond 2^53')
        return value
      }
      unit *= 0x80
    }
    throw new ProtobufError('a number is beyond 2^53')
  }
}
