import { expect, test } from 'vitest'
import { LongPoll } from '../../../src/broker/long-poll.ts'
import { ManualClock, settle } from '../../support/manual-clock.ts'

function open(parkedMax = 100) {
  const clock = new ManualClock()
  const longPoll = new LongPoll({ clock, parkedMax })
  const woken: string[] = []
  const park = (name: string, topicId = 1, queue = 0, waitMs = 1000) =>
    longPoll.park(topicId, queue, waitMs, () => woken.push(name))
  return { clock, longPoll, woken, park }
}

test('a wake reaches those who wait for this queue of this topic, once per turn and pull', async () => {
  const { longPoll, woken, park } = open()
  park('a')
  park('b')
  park('other queue', 1, 1)
  park('other topic', 2, 0)
  longPoll.wake(1, 0)
  longPoll.wake(1, 0)
  expect(woken).toEqual([])
  await settle()
  longPoll.wake(1, 0)
  await settle()
  expect(woken).toEqual(['a', 'b'])
  expect(longPoll.count).toBe(2)
})

test('a topic that goes wakes all its queues', async () => {
  const { longPoll, woken, park } = open()
  park('a', 1, 0)
  park('b', 1, 7)
  park('c', 2, 0)
  longPoll.wakeTopic(1)
  await settle()
  expect(woken).toEqual(['a', 'b'])
})

test('a wait ends with its time, once, and leaves no timer', async () => {
  const { clock, longPoll, woken, park } = open()
  park('a')
  await clock.advance(999)
  expect(woken).toEqual([])
  await clock.advance(1)
  longPoll.wake(1, 0)
  await settle()
  expect(woken).toEqual(['a'])
  expect(clock.timerCount).toBe(0)
  expect(longPoll.count).toBe(0)
})

test('a withdrawn pull is not woken, even between the wake and the end of the turn', async () => {
  const { clock, longPoll, woken, park } = open()
  const withdraw = park('a')
  longPoll.wake(1, 0)
  withdraw?.()
  withdraw?.()
  await settle()
  expect(woken).toEqual([])
  expect(longPoll.count).toBe(0)
  expect(clock.timerCount).toBe(0)
})

test('no more wait than may', () => {
  const { longPoll, park } = open(2)
  park('a')
  const second = park('b')
  expect(park('c')).toBeNull()
  second?.()
  expect(park('c')).not.toBeNull()
  expect(longPoll.count).toBe(2)
})

test('whoever parks again while being woken waits for the next message', async () => {
  const { longPoll, woken, park } = open()
  longPoll.park(1, 0, 1000, () => {
    woken.push('first')
    park('second')
  })
  longPoll.wake(1, 0)
  await settle()
  expect(woken).toEqual(['first'])
  longPoll.wake(1, 0)
  await settle()
  expect(woken).toEqual(['first', 'second'])
})
