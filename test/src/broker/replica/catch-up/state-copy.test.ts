/** A state image that comes in pieces, from a source that may stop to answer. */
import { expect, test } from 'vitest'
import { answerMsMax, copyState, type StateCopyParts } from '../../../../../src/broker/replica/catch-up/state-copy.ts'
import { MemoryDisk, MemoryKeyValueEngine } from '../../../../../store/index.ts'
import { ManualClock } from '../../../../support/manual-clock.ts'

test('a source that does not answer any more is given up, and its stream is let go', async () => {
  const clock = new ManualClock()
  let cancelled = 0
  const sink: ReturnType<StateCopyParts['sources']['openState']>['sink'] = {
    write: () => true,
    end: () => {},
    cancel: () => cancelled++,
  }
  const copy = copyState({
    clock,
    sources: { openState: () => ({ sink, first: { bytesMax: 1 } }) },
    node: 'n1',
    place: { engine: new MemoryKeyValueEngine(), disk: new MemoryDisk(), directory: '/state' },
    signal: new AbortController().signal,
    received: async () => {},
  })
  const outcome = expect(copy).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' })
  await clock.advance(answerMsMax)
  await outcome
  expect(cancelled).toBe(1)
})
