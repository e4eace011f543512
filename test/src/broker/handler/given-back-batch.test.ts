/** What becomes of a message that a consumer could not handle, and how it is stored once more. */
import { expect, test } from 'vitest'
import { defaultGroupSettings } from '../../../../src/broker/apply/group-config.ts'
import {
  type ConsumedRecord,
  type Fate,
  fateOf,
  makeGivenBackBatch,
  splitForBatches,
} from '../../../../src/broker/handler/given-back-batch.ts'
import { checkBatch, readRecords } from '../../../../src/message/batch.ts'
import { buildRecord } from '../../../../src/message/build-record.ts'
import { readDelivery } from '../../../../src/message/extensions.ts'
import type { Origin } from '../../../../src/message/types.ts'

const byGroup = { delayLevel: 0, deadLetter: false }
const source = { group: 'g', topic: 't', topicId: 4, queue: 2, member: 'a', generation: 3, receipts: [] }

function consumed(
  offset: number,
  fields: { attempt?: number; origin?: Origin; body?: string; bornTime?: number; bornHost?: string } = {},
): ConsumedRecord {
  const { attempt = 0, origin = null, body = 'x', bornTime = 1_000_000, bornHost = 'h' } = fields
  const message = { topic: 't', body, tag: 'T', keys: ['k'], properties: { p: 'v' } }
  const { record } = buildRecord(message, { messageId: `M${offset}`, attempt, origin, deliveryTime: 77 })
  return { offset, record, bornTime, bornHost }
}

const later: Fate = { kind: 'retry', deliveryTime: 5_000_000 }

test('the group decides how long to wait, attempt by attempt, and the last delay counts for all that follow', () => {
  const settings = { retriesMax: 5, retryDelaysMs: [10, 20] }
  const times = [0, 1, 2, 4].map((attempt) => fateOf({ attempt }, byGroup, settings, 1_000_000))
  expect(times.map((fate) => (fate.kind === 'retry' ? fate.deliveryTime - 1_000_000 : null))).toEqual([10, 20, 20, 20])
  expect(fateOf({ attempt: 5 }, byGroup, settings, 1_000_000)).toEqual({ kind: 'dead_letter' })
})

test('a delay level is one, and a dead letter is one at once', () => {
  expect(fateOf({ attempt: 0 }, { delayLevel: 7, deadLetter: false }, defaultGroupSettings, 9)).toEqual({
    kind: 'retry',
    deliveryTime: 7,
  })
  expect(fateOf({ attempt: 16 }, { delayLevel: 7, deadLetter: false }, defaultGroupSettings, 9).kind).toBe(
    'dead_letter',
  )
  expect(fateOf({ attempt: 0 }, { delayLevel: 7, deadLetter: true }, defaultGroupSettings, 9).kind).toBe('dead_letter')
  expect(fateOf({ attempt: 0 }, byGroup, { retriesMax: 0, retryDelaysMs: [1] }, 9).kind).toBe('dead_letter')
})

test('stored for later it is the same message with one attempt more, and remembers where it came from first', () => {
  const batch = makeGivenBackBatch(source, [
    { ...consumed(8), fate: later },
    { ...consumed(9, { attempt: 4, origin: { topic: 'first', queue: 1, offset: 3 } }), fate: later },
  ])
  const header = checkBatch(batch)
  expect(header).toMatchObject({ topic: '%RETRY%g', queue: 0, bornHost: 'h', baseBornTime: 1_000_000 })
  const { topic: _, ...by } = source
  expect(readDelivery(header)).toEqual({ kind: 'retry', source: { ...by, offsets: [8, 9] } })
  const [fresh, old] = readRecords(batch)
  const same = { messageId: 'M8', tag: 'T', keys: ['k'], properties: { p: 'v' }, deliveryTime: 5_000_000 }
  expect(fresh).toMatchObject({ ...same, attempt: 1, origin: { topic: 't', queue: 2, offset: 8 } })
  expect(old).toMatchObject({ attempt: 5, origin: { topic: 'first', queue: 1, offset: 3 } })
})

test('given up it goes to the dead letters at once, with the attempts that it had', () => {
  const batch = makeGivenBackBatch(source, [{ ...consumed(8, { attempt: 16 }), fate: { kind: 'dead_letter' } }])
  const header = checkBatch(batch)
  expect([header.topic, readDelivery(header)?.kind]).toEqual(['%DLQ%g', 'dead_letters'])
  expect(readRecords(batch)[0]).toMatchObject({ attempt: 16, deliveryTime: 0, origin: { offset: 8 } })
})

test('messages of other hosts, of another season and beyond a MiB go into batches of their own', () => {
  const offsets = (records: readonly ConsumedRecord[]) =>
    splitForBatches(records).map((part) => part.map(({ offset }) => offset))
  expect(offsets([consumed(1), consumed(2), consumed(3, { bornHost: 'i' }), consumed(4, { bornHost: 'i' })])).toEqual([
    [1, 2],
    [3, 4],
  ])
  expect(offsets([consumed(1), consumed(2, { bornTime: 1_000_000 + 2 ** 31 })])).toEqual([[1], [2]])
  const large = 'x'.repeat(400_000)
  expect(offsets([1, 2, 3, 4].map((offset) => consumed(offset, { body: large })))).toEqual([
    [1, 2],
    [3, 4],
  ])
})
