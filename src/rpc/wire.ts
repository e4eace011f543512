/**
 * The protobuf wire format, just as much of it as LedgerMQ speaks: unsigned integers, booleans, text, bytes, messages.
 *
 * Used by the hand-written codecs (`envelopes.ts`, `peer-codec.ts`, `status.ts`) and by `object-codec.ts`. Integers
 * are JavaScript numbers and must be safe integers both ways. A reader never trusts a length: whatever is malformed
 * throws a LedgerError INVALID_REQUEST, and it never copies: bytes are views of what was received.
 */
import { isUtf8 } from 'node:buffer'
import { LedgerError } from '../common/errors.ts'

/**
 * Where fields are written to. A message is a function that writes its fields to one of these; it runs twice, first
 * to measure, then to write into a buffer of exactly that size. Zero, false and empty are left out unless `always`.
 */
export interface FieldSink {
  uint(field: number, value: number, always?: boolean): void
  flag(field: number, value: boolean, always?: boolean): void
  text(field: number, value: string, always?: boolean): void
  /** A byte string of `length` bytes that `copy` writes into `target` from `at` on. */
  blob(field: number, length: number, copy: (target: Buffer, at: number) => void, always?: boolean): void
  message(field: number, fill: (to: FieldSink) => void): void
}

/** Encodes a message with one allocation. `fill` must write the same fields each time. */
export function encodeMessage(fill: (to: FieldSink) => void): Buffer {
  const target = Buffer.allocUnsafe(measure(fill))
  fill(new FieldWriter(target))
  return target
}

const varintType = 0
const fixed64Type = 1
const bytesType = 2
const fixed32Type = 5

const fieldNumberMax = 0x1fffffff
const varintBytesMax = 10

function measure(fill: (to: FieldSink) => void): number {
  const sizer = new FieldSizer()
  fill(sizer)
  return sizer.bytes
}

class FieldSizer implements FieldSink {
  bytes = 0

  uint(field: number, value: number, always = false): void {
    if (!Number.isSafeInteger(value) || value < 0) {
      throw new LedgerError('INVALID_REQUEST', `field ${field}: ${value} is no integer from 0 to 2^53 - 1`)
    }
    if (value !== 0 || always) this.bytes += varintBytes(field * 8) + varintBytes(value)
  }

  flag(field: number, value: boolean, always = false): void {
    if (value || always) this.bytes += varintBytes(field * 8) + 1
  }

  text(field: number, value: string, always = false): void {
    if (value !== '' || always) this.#delimited(field, Buffer.byteLength(value))
  }

  blob(field: number, length: number, _copy: (target: Buffer, at: number) => void, always = false): void {
    if (length > 0 || always) this.#delimited(field, length)
  }

  message(field: number, fill: (to: FieldSink) => void): void {
    this.#delimited(field, measure(fill))
  }

  #delimited(field: number, length: number): void {
    this.bytes += varintBytes(field * 8) + varintBytes(length) + length
  }
}

class FieldWriter implements FieldSink {
  readonly #target: Buffer
  #at = 0

  constructor(target: Buffer) {
    this.#target = target
  }

  uint(field: number, value: number, always = false): void {
    if (value === 0 && !always) return
    this.#varint(field * 8 + varintType)
    this.#varint(value)
  }

  flag(field: number, value: boolean, always = false): void {
    if (value || always) this.uint(field, value ? 1 : 0, true)
  }

  text(field: number, value: string, always = false): void {
    if (value === '' && !always) return
    this.#varint(field * 8 + bytesType)
    this.#varint(Buffer.byteLength(value))
    this.#at += this.#target.write(value, this.#at)
  }

  blob(field: number, length: number, copy: (target: Buffer, at: number) => void, always = false): void {
    if (length === 0 && !always) return
    this.#varint(field * 8 + bytesType)
    this.#varint(length)
    copy(this.#target, this.#at)
    this.#at += length
  }

  message(field: number, fill: (to: FieldSink) => void): void {
    this.#varint(field * 8 + bytesType)
    this.#varint(measure(fill))
    fill(this)
  }

  #varint(value: number): void {
    let rest = value
    while (rest > 0x7fffffff) {
      this.#target[this.#at++] = (rest & 0x7f) | 0x80
      rest = Math.floor(rest / 128)
    }
    while (rest > 0x7f) {
      this.#target[this.#at++] = (rest & 0x7f) | 0x80
      rest >>>= 7
    }
    this.#target[this.#at++] = rest
  }
}

function varintBytes(value: number): number {
  let bytes = 1
  for (let limit = 128; value >= limit; limit *= 128) bytes += 1
  return bytes
}

/**
 * Reads the fields of one message: `while (reader.next())`, then exactly one of the value methods for `reader.field`,
 * `skip()` for a field that is not known.
 */
export class WireReader {
  readonly #bytes: Buffer
  #at = 0
  #type = 0
  /** Number of the field whose value is next. */
  field = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  /** False at the end of the message. */
  next(): boolean {
    if (this.#at === this.#bytes.length) return false
    const tag = this.#varint()
    this.field = Math.floor(tag / 8)
    this.#type = tag & 7
    if (this.field < 1 || this.field > fieldNumberMax) throw malformed(`field number ${this.field}`)
    return true
  }

  uint(): number {
    this.#expect(varintType)
    const value = this.#varint()
    if (value > Number.MAX_SAFE_INTEGER) throw malformed(`field ${this.field} exceeds 2^53 - 1`)
    return value
  }

  /**
   * The value as it came, inexact beyond 2^53: for a number whose judgement is the answer to one request of a stream,
   * where an error would end all of them. Whoever uses it must check it.
   */
  unchecked(): number {
    this.#expect(varintType)
    return this.#varint()
  }

  uint32(): number {
    const value = this.uint()
    if (value > 0xffffffff) throw malformed(`field ${this.field} exceeds 32 bits`)
    return value
  }

  flag(): boolean {
    this.#expect(varintType)
    return this.#varint() !== 0
  }

  /** A view of the received bytes. */
  bytes(): Buffer {
    this.#expect(bytesType)
    return this.#delimited()
  }

  text(): string {
    const view = this.bytes()
    if (!isUtf8(view)) throw malformed(`field ${this.field} is not UTF-8`)
    return view.toString('utf8')
  }

  message(): WireReader {
    return new WireReader(this.bytes())
  }

  skip(): void {
    if (this.#type === varintType) this.#varint()
    else if (this.#type === bytesType) this.#delimited()
    else if (this.#type === fixed64Type) this.#advance(8)
    else if (this.#type === fixed32Type) this.#advance(4)
    else throw malformed(`wire type ${this.#type} of field ${this.field}`)
  }

  #expect(type: number): void {
    if (this.#type !== type) throw malformed(`field ${this.field} has wire type ${this.#type} instead of ${type}`)
  }

  #delimited(): Buffer {
    const length = this.#varint()
    const from = this.#at
    this.#advance(length)
    return this.#bytes.subarray(from, this.#at)
  }

  #advance(length: number): void {
    if (length > this.#bytes.length - this.#at) throw malformed(`field ${this.field} is cut off`)
    this.#at += length
  }

  #varint(): number {
    let value = 0
    let scale = 1
    for (let count = 0; count < varintBytesMax; count += 1) {
      const byte = this.#bytes[this.#at++]
      if (byte === undefined) throw malformed(`field ${this.field} is cut off`)
      if (byte < 0x80) return value + byte * scale
      value += (byte & 0x7f) * scale
      scale *= 128
    }
    throw malformed(`field ${this.field}: an integer of more than ${varintBytesMax} bytes`)
  }
}

/** What is thrown for bytes that cannot be a message of ours. */
export function malformed(reason: string): LedgerError {
  return new LedgerError('INVALID_REQUEST', `malformed message: ${reason}`)
}
