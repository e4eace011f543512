/** Configuration tables: precedence, and refusals that name the key, the reason and the way out. */
import { describe, expect, expectTypeOf, test } from 'vitest'
import { describeConfig, key, nearest, readConfig } from '../../../src/common/config.ts'
import {
  choiceKind,
  durationKind,
  flagKind,
  formatBytes,
  formatDuration,
  integerKind,
  listKind,
  sizeKind,
  textKind,
} from '../../../src/common/config-values.ts'
import { LedgerError } from '../../../src/common/errors.ts'

const mebibyte = 1024 * 1024
const table = {
  node: key(textKind({ pattern: /^[a-z0-9]+$/, explain: 'lower-case letters and digits' }), { doc: 'Node id.' }),
  segmentBytes: key(sizeKind({ min: mebibyte, max: 4096 * mebibyte }), {
    doc: 'Size of a segment.',
    default: 1024 * mebibyte,
    env: 'LEDGERMQ_SEGMENT_BYTES',
  }),
  electionTimeoutMs: key(durationKind({ min: 50, max: 60_000 }), { doc: 'Election timeout.', default: 500 }),
  queues: key(integerKind({ min: 1, max: 1024 }), { doc: 'Queues of a topic.', default: 8, env: 'LEDGERMQ_QUEUES' }),
  createTopics: key(flagKind, { doc: 'Automatic creation.', default: true }),
  namesrv: key(listKind({ itemsMax: 3 }), { doc: 'Namesrv addresses.', default: ['127.0.0.1:9876'] }),
  ackMode: key(choiceKind(['quorum', 'memory']), { doc: 'When to acknowledge.', default: 'quorum' }),
}

function refusal(sources: Parameters<typeof readConfig>[1]): string {
  try {
    readConfig(table, { ...sources, flags: { node: 'n0', ...sources.flags } })
  } catch (error) {
    expect(error).toBeInstanceOf(LedgerError)
    expect((error as LedgerError).code).toBe('CONFIG_INVALID')
    return (error as LedgerError).message
  }
  return 'accepted'
}

describe('configuration', () => {
  test('flags win over environment, environment over file, file over default', () => {
    const file = { node: 'file', segmentBytes: '2GiB', queues: 3, electionTimeoutMs: '2s' }
    const env = { LEDGERMQ_SEGMENT_BYTES: '64MiB', LEDGERMQ_QUEUES: '5', LEDGERMQ_SERVICE_HOST: '10.0.0.1' }
    const config = readConfig(table, { file, env, flags: { queues: '7', createTopics: undefined } })
    expect(config).toEqual({
      node: 'file',
      segmentBytes: 64 * mebibyte,
      electionTimeoutMs: 2000,
      queues: 7,
      createTopics: true,
      namesrv: ['127.0.0.1:9876'],
      ackMode: 'quorum',
    })
  })

  test('the values have the types of their keys', () => {
    const config = readConfig(table, { flags: { node: 'n0' } })
    expectTypeOf(config.segmentBytes).toEqualTypeOf<number>()
    expectTypeOf(config.node).toEqualTypeOf<string>()
    expectTypeOf(config.createTopics).toEqualTypeOf<boolean>()
    expectTypeOf(config.namesrv).toEqualTypeOf<readonly string[]>()
    expectTypeOf(config.ackMode).toEqualTypeOf<'quorum' | 'memory'>()
  })

  test('an unknown key is refused by name, with the key that was probably meant', () => {
    expect(refusal({ file: { segmentByte: 1 } })).toBe(
      'unknown key "segmentByte" in the configuration file; did you mean "segmentBytes"?',
    )
    expect(refusal({ flags: { electiontimeout: 1 } })).toContain('did you mean "electionTimeoutMs"?')
    expect(refusal({ file: { zzz: 1 } })).toBe('unknown key "zzz" in the configuration file')
    expect(refusal({ file: JSON.parse('{"__proto__": 1}') })).toContain('unknown key "__proto__"')
    expect(refusal({ file: { toString: 1 } })).toContain('unknown key "toString"')
  })

  test('a wrong value is refused with key, source, reason and what is allowed', () => {
    expect(refusal({ file: { queues: 0 } })).toBe('queues in the configuration file: 0 is outside 1 to 1024')
    expect(refusal({ flags: { queues: 'many' } })).toBe(
      'queues in the flags: "many" is no integer (allowed: 1 to 1024)',
    )
    expect(refusal({ env: { LEDGERMQ_SEGMENT_BYTES: '64MB' } })).toBe(
      'segmentBytes in the environment variable LEDGERMQ_SEGMENT_BYTES: "64MB" is no size such as 4GiB (allowed: 1MiB to 4GiB)',
    )
    expect(refusal({ file: { electionTimeoutMs: '2h' } })).toContain('"2h" is outside 50ms to 1m')
    expect(refusal({ file: { createTopics: 'yes' } })).toContain('"yes" is neither true nor false')
    expect(refusal({ file: { namesrv: ['a', 5] } })).toContain('is no list of texts')
    expect(refusal({ file: { namesrv: 'a,b,c,d' } })).toContain('more than 3 items')
    expect(refusal({ file: { ackMode: 'none' } })).toContain('is none of quorum, memory')
    expect(refusal({ flags: { node: '../x' } })).toContain('"../x" is not lower-case letters and digits')
  })

  test('numbers that are none are refused', () => {
    for (const queues of [Number.NaN, 1.5, '1.5', null, {}, [], true, '0x10', '1e3', '', '-1', 2 ** 53]) {
      expect(refusal({ flags: { queues } }), String(queues)).toContain('queues in the flags')
    }
  })

  test('a key without default must be given', () => {
    expect(() => readConfig(table, {})).toThrow('node must be given: Node id.')
  })

  test('a file that holds no object is refused', () => {
    for (const file of [null, [], 'x', 5]) expect(refusal({ file })).toContain('one JSON object')
  })

  test('sizes, durations and lists read as people write them', () => {
    const read = (flags: object): unknown => readConfig(table, { flags: { node: 'n0', ...flags } })
    expect(read({ segmentBytes: '1.5 gib' })).toMatchObject({ segmentBytes: 1536 * mebibyte })
    expect(read({ segmentBytes: '2097152' })).toMatchObject({ segmentBytes: 2 * mebibyte })
    expect(read({ electionTimeoutMs: '0.5s' })).toMatchObject({ electionTimeoutMs: 500 })
    expect(read({ namesrv: 'a:1, b:2' })).toMatchObject({ namesrv: ['a:1', 'b:2'] })
    expect(read({ namesrv: '' })).toMatchObject({ namesrv: [] })
    expect(read({ createTopics: 'false' })).toMatchObject({ createTopics: false })
    expect([formatBytes(0), formatBytes(1536), formatBytes(64 * mebibyte)]).toEqual(['0B', '1536B', '64MiB'])
    expect([formatDuration(75), formatDuration(90_000), formatDuration(7_200_000)]).toEqual(['75ms', '90s', '2h'])
  })

  test('the table describes itself', () => {
    expect(describeConfig(table)[1]).toEqual({
      key: 'segmentBytes',
      kind: 'size',
      allowed: '1MiB to 4GiB',
      default: '1GiB',
      env: 'LEDGERMQ_SEGMENT_BYTES',
      doc: 'Size of a segment.',
    })
    expect(describeConfig(table)[0]?.default).toBe('')
  })

  test('the nearest name is offered only when it is near', () => {
    expect(nearest('prodcue', ['produce', 'consume'])).toBe('produce')
    expect(nearest('x', ['produce'])).toBeUndefined()
    expect(nearest('', [])).toBeUndefined()
  })
})
