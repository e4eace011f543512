/** Flags of `ledgermq broker` that become options. */
import { expect, test } from 'vitest'
import { brokerOptionsFrom } from '../../../src/cli/broker-config.ts'

const flags = {
  node: 'n0',
  listen: '127.0.0.1:30911',
  peers: 'n0=127.0.0.1:30912',
  data: '/tmp/nowhere',
}

test('messages are kept 72 hours, without a limit of bytes, unless the flags say otherwise', () => {
  const byDefault = brokerOptionsFrom(flags, {}).broker
  expect(byDefault.retention).toEqual({ reservedMs: 72 * 3_600_000, logBytesMax: null })
  const given = brokerOptionsFrom({ ...flags, retentionHours: '24', retentionBytes: '10GiB' }, {}).broker
  expect(given.retention).toEqual({ reservedMs: 24 * 3_600_000, logBytesMax: 10 * 1024 ** 3 })
})

test.each([
  ['retentionHours', '0'],
  ['retentionHours', 'forever'],
  ['retentionBytes', '-1'],
])('--%s %s stops the start with the key', (key, value) => {
  expect(() => brokerOptionsFrom({ ...flags, [key]: value }, {})).toThrow(key)
})

test('the segment size is the one of the group unless a flag gives one', () => {
  expect(brokerOptionsFrom(flags, {}).broker).not.toHaveProperty('segmentBytes')
  expect(brokerOptionsFrom({ ...flags, segmentBytes: '64MiB' }, {}).broker.segmentBytes).toBe(64 * 1024 ** 2)
})
