/** Delayed batches at the door of the broker, and taking a delayed message back. */
import { crc32 } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { encodeCommand } from '../../../../src/broker/apply/command.ts'
import { checkBatch } from '../../../../src/message/batch.ts'
import { delayMsMax } from '../../../../src/message/delay-levels.ts'
import { makeRecallHandle, timerOf } from '../../../../src/message/recall-handle.ts'
import { batchKinds, codecs } from '../../../../src/message/types.ts'
import { brokerMethods } from '../../../../src/rpc/methods.ts'
import { frameTypes } from '../../../../store/index.ts'
import { makeBatch } from '../apply/support.ts'
import { type HandlerBench, openBench } from './support.ts'

async function openDelayed(): Promise<HandlerBench> {
  const bench = await openBench()
  bench.topic('t', 2)
  return bench
}

function delayed(times: readonly number[], queue = 0): Buffer {
  return makeBatch({ topic: 't', queue, kind: batchKinds.delayed, times })
}

/** Sends and makes the handle of every message, as a client does. */
async function send(bench: HandlerBench, times: readonly number[], queue = 0): Promise<readonly string[]> {
  const reply = await bench.produce().send(delayed(times, queue))
  expect(reply).toMatchObject({ code: 0, baseOffset: 0 })
  const { storeTime, index } = reply
  return times.map((deliveryTime, record) =>
    makeRecallHandle({ topic: 't', queue }, timerOf({ deliveryTime, storeTime, index, record })),
  )
}

function recall(bench: HandlerBench, handle: string, at: { topic?: string; queue?: number } = {}): Promise<unknown> {
  return bench.call(brokerMethods.recallMessage, { topic: 't', queue: 0, handle, ...at })
}

describe('a delayed batch', () => {
  test('is stored with any time up to 40 days ahead of log time, the past and levels included', async () => {
    const bench = await openDelayed()
    const { logTime } = bench.replica
    await send(bench, [logTime + delayMsMax, 1, 18, 19, logTime - 5])
    expect(bench.replica.machine.timers.pending).toBe(5)
  })

  test('further ahead is refused with 29 that names the limit; nothing is proposed', async () => {
    const bench = await openDelayed()
    const far = bench.replica.logTime + delayMsMax + 1
    const reply = await bench.produce().send(delayed([1, far]))
    expect(reply).toMatchObject({ code: 29 })
    expect(reply.status?.message).toContain(`${delayMsMax} ms (40 days)`)
    expect(bench.replica.proposals).toEqual([])
  })

  test('with a message that has no time is refused with 13', async () => {
    const bench = await openDelayed()
    expect(await bench.produce().send(delayed([5, 0]))).toMatchObject({ code: 13 })
    expect(bench.replica.proposals).toEqual([])
  })
})

test('bodies that nobody can unpack are refused with 13, where a broker has to store them once more', async () => {
  const bench = await openDelayed()
  const body = 'x'.repeat(1000)
  const batch = makeBatch({ topic: 't', kind: batchKinds.delayed, times: [1], body, codec: codecs.zlib })
  expect(checkBatch(batch).codec).toBe(codecs.zlib)
  batch.fill(0xff, batch.length - 8)
  batch.writeUInt32LE(crc32(batch.subarray(12)), 8)
  checkBatch(batch)
  expect(await bench.produce().send(batch)).toMatchObject({ code: 13 })
  expect(bench.replica.proposals).toEqual([])
})

describe('recall', () => {
  test('takes the one message back, once', async () => {
    const bench = await openDelayed()
    const [first = '', second = ''] = await send(bench, [18, 18])
    expect(await recall(bench, second)).toEqual({})
    expect(bench.replica.machine.timers.pending).toBe(1)
    await expect(recall(bench, second)).rejects.toMatchObject({ code: 'TIMER_NOT_FOUND' })
    expect(await recall(bench, first)).toEqual({})
    expect(bench.replica.machine.timers.pending).toBe(0)
  })

  test('of a message that was never delayed is not found and proposes nothing', async () => {
    const bench = await openDelayed()
    await send(bench, [18])
    const { index } = { index: bench.replica.commitIndex }
    const proposals = bench.replica.proposals.length
    const target = { topic: 't', queue: 0 }
    for (const timer of [
      { time: bench.replica.logTime + 5, index, record: 0 },
      { time: 7_200_000 + bench.replica.logTime, index, record: 1 },
      { time: 0, index: 0, record: 0 },
    ])
      await expect(recall(bench, makeRecallHandle(target, timer))).rejects.toMatchObject({ code: 'TIMER_NOT_FOUND' })
    expect(bench.replica.proposals).toHaveLength(proposals)
    expect(bench.replica.machine.timers.pending).toBe(1)
  })

  test('with the timer of another queue of the topic takes nothing away', async () => {
    const bench = await openDelayed()
    await send(bench, [18], 0)
    const reply = await bench.produce().send(delayed([18], 1))
    const timer = timerOf({ deliveryTime: 18, storeTime: reply.storeTime, index: reply.index, record: 0 })
    const forged = makeRecallHandle({ topic: 't', queue: 0 }, timer)
    await expect(recall(bench, forged)).rejects.toMatchObject({ code: 'TIMER_NOT_FOUND' })
    expect(bench.replica.machine.timers.pending).toBe(2)
    expect(await recall(bench, makeRecallHandle({ topic: 't', queue: 1 }, timer), { queue: 1 })).toEqual({})
  })

  test('refuses what is no handle, no topic, no queue; and a topic that took the place of another', async () => {
    const bench = await openDelayed()
    const [handle = ''] = await send(bench, [18])
    await expect(recall(bench, `${handle}A`)).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
    await expect(recall(bench, handle, { queue: 1 })).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
    await expect(recall(bench, handle, { queue: -1 })).rejects.toMatchObject({ code: 'INVALID_REQUEST' })
    await expect(recall(bench, handle, { topic: '__proto__' })).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
    bench.replica.commit(frameTypes.command, encodeCommand({ kind: 'delete_topic', topic: 't' }))
    await expect(recall(bench, handle)).rejects.toMatchObject({ code: 'TOPIC_NOT_EXIST' })
    bench.topic('t', 2)
    await expect(recall(bench, handle)).rejects.toMatchObject({ code: 'TIMER_NOT_FOUND' })
  })

  test('is answered by a confirmed leader alone', async () => {
    const bench = await openDelayed()
    const [handle = ''] = await send(bench, [18])
    bench.replica.quorum = false
    await expect(recall(bench, handle)).rejects.toMatchObject({ code: 'NO_QUORUM' })
    bench.replica.follow({ node: 'n1', address: 'n1:1', term: 2 })
    await expect(recall(bench, handle)).rejects.toMatchObject({ code: 'NOT_LEADER', facts: { leader: { node: 'n1' } } })
  })
})
