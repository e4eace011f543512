/** The wire reader and writer at their edges: sizes, broken lengths, foreign wire types. */
import { describe, expect, test } from 'vitest'
import { LedgerError } from '../../../src/common/errors.ts'
import { encodeMessage, type FieldSink, WireReader } from '../../../src/rpc/wire.ts'

const edges = [1, 127, 128, 16383, 16384, 2 ** 21, 2 ** 28 - 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 49, 2 ** 53 - 1]

function readAll(bytes: Buffer): void {
  const reader = new WireReader(bytes)
  while (reader.next()) {
    if (reader.field === 1) reader.uint()
    else if (reader.field === 2) reader.text()
    else if (reader.field === 3) readAll(reader.bytes())
    else reader.skip()
  }
}

function codeOf(run: () => unknown): string {
  try {
    run()
  } catch (error) {
    expect(error).toBeInstanceOf(LedgerError)
    return (error as LedgerError).code
  }
  return 'none'
}

describe('wire', () => {
  test('every safe integer comes back as itself', () => {
    for (const value of edges) {
      const reader = new WireReader(encodeMessage((to) => to.uint(1, value)))
      expect(reader.next()).toBe(true)
      expect(reader.uint()).toBe(value)
      expect(reader.next()).toBe(false)
    }
  })

  test('zero, false and empty take no bytes unless asked for', () => {
    const fill = (always: boolean) => (to: FieldSink) => {
      to.uint(1, 0, always)
      to.flag(2, false, always)
      to.text(3, '', always)
      to.blob(4, 0, () => {}, always)
    }
    expect(encodeMessage(fill(false))).toHaveLength(0)
    expect(encodeMessage(fill(true)).toString('hex')).toBe('080010001a002200')
  })

  test('a number that is no safe integer is refused on the way out', () => {
    for (const value of [-1, 1.5, Number.NaN, 2 ** 53, Number.POSITIVE_INFINITY]) {
      expect(codeOf(() => encodeMessage((to) => to.uint(1, value)))).toBe('INVALID_REQUEST')
    }
  })

  test('an integer beyond 2^53 - 1, or longer than ten bytes, is refused on the way in', () => {
    expect(codeOf(() => readAll(Buffer.from('0880808080808080' + '10', 'hex')))).toBe('INVALID_REQUEST')
    expect(codeOf(() => readAll(Buffer.from(`08${'ff'.repeat(9)}01`, 'hex')))).toBe('INVALID_REQUEST')
    expect(codeOf(() => readAll(Buffer.from(`08${'80'.repeat(11)}01`, 'hex')))).toBe('INVALID_REQUEST')
  })

  test('cut-off text, broken UTF-8 and a length of 4 GiB are refused', () => {
    for (const hex of ['127f41', '1202c328', '12ffffffff0f', '0a', '12', '08']) {
      expect(codeOf(() => readAll(Buffer.from(hex, 'hex')))).toBe('INVALID_REQUEST')
    }
  })

  test('a known field of another wire type, groups and field 0 are refused', () => {
    for (const hex of ['0a00', '1001', '2b2c', '0001', '07']) {
      expect(codeOf(() => readAll(Buffer.from(hex, 'hex')))).toBe('INVALID_REQUEST')
    }
  })

  test('unknown fields of every wire type are skipped', () => {
    const unknown = Buffer.from('2001' + '290102030405060708' + '320141' + '3d01020304', 'hex')
    const reader = new WireReader(Buffer.concat([unknown, encodeMessage((to) => to.uint(1, 7))]))
    let seen = 0
    while (reader.next()) {
      if (reader.field === 1) seen = reader.uint()
      else reader.skip()
    }
    expect(seen).toBe(7)
  })

  test('a message cut or flipped at any byte is read or refused, never anything else', () => {
    const whole = encodeMessage((to) => {
      to.uint(1, 300)
      to.text(2, 'grüße')
      to.message(3, (inner) => inner.text(2, 'x'))
      to.blob(15, 3, (target, at) => target.fill(7, at, at + 3))
    })
    for (let at = 0; at < whole.length; at += 1) {
      expect(['none', 'INVALID_REQUEST']).toContain(codeOf(() => readAll(whole.subarray(0, at))))
      for (let bit = 0; bit < 8; bit += 1) {
        const flipped = Buffer.from(whole)
        flipped[at] = flipped[at]! ^ (1 << bit)
        expect(['none', 'INVALID_REQUEST']).toContain(codeOf(() => readAll(flipped)))
      }
    }
  })
})
