/** The bytes of commands about groups, which lie in the log for ever. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { type Command, decodeCommand, EntryError, encodeCommand } from '../../../../src/broker/apply/command.ts'
import { defaultGroupSettings } from '../../../../src/broker/apply/group-config.ts'

const queues = [
  { topicId: 17, queue: 3 },
  { topicId: 3, queue: 0 },
]

const examples: Readonly<Record<string, Command>> = {
  set_group: {
    kind: 'set_group',
    group: 'shop',
    settings: {
      retriesMax: 300,
      retryDelaysMs: [0, 1_000, 7_200_000],
      ordered: true,
      strategy: 'consistent_hash',
      start: 'time',
      startTime: 1_700_000_000_000,
      paused: true,
    },
  },
  set_group_default: { kind: 'set_group', group: 'shop', settings: defaultGroupSettings },
  delete_group: { kind: 'delete_group', group: 'shop' },
  seek_group: {
    kind: 'seek_group',
    group: 'shop',
    expectedGeneration: 7,
    offsets: queues.map((queue) => ({ ...queue, offset: 9_007_199_254_740_991 })),
  },
  lock_queues: { kind: 'lock_queues', group: 'shop', member: 'a@1', generation: 7, leaseMs: 60_000, queues },
  unlock_queues: { kind: 'unlock_queues', group: 'shop', member: 'a@1', generation: 7, queues },
  commit_leased: {
    kind: 'commit_offsets',
    group: 'shop',
    member: 'a@1',
    generation: 7,
    seek: false,
    leased: true,
    offsets: [{ topicId: 17, queue: 3, offset: 5 }],
  },
}

test.each(Object.keys(examples))('%s is the golden bytes and decodes to itself', (name) => {
  const command = examples[name]!
  const golden = readFileSync(new URL(`golden/${name}.hex`, import.meta.url), 'utf8').trim()
  expect(encodeCommand(command).toString('hex')).toBe(golden)
  expect(decodeCommand(Buffer.from(golden, 'hex'))).toEqual(command)
})

test.each(Object.keys(examples))('%s cut off anywhere is refused as an entry, never with another error', (name) => {
  const bytes = encodeCommand(examples[name]!)
  for (let length = 0; length < bytes.length; length++)
    expect(() => decodeCommand(bytes.subarray(0, length))).toThrow(EntryError)
})
