import { expect, test } from 'vitest'
import type { ReceivedMessage } from '../../../../src/broker/apply/received.ts'
import { chooseHeld, chooseUnseen } from '../../../../src/broker/receive/choose.ts'

const rules = { logTime: 100, ordered: true, deliveriesMax: 3, messagesMax: 10 }

function held(offset: number, fields: Partial<ReceivedMessage> = {}): ReceivedMessage {
  return { offset, attempt: 1, receipt: 1, visibleAt: 100, orderHash: 0, ...fields }
}

function offsets(messages: readonly { readonly offset: number }[]): readonly number[] {
  return messages.map(({ offset }) => offset)
}

test('what is visible again is chosen, what is with somebody is not', () => {
  const choice = chooseHeld([held(1, { visibleAt: 101 }), held(2), held(5, { visibleAt: 100 })], rules)
  expect(offsets(choice.again)).toEqual([2, 5])
})

test('what was delivered as often as may be is not delivered again', () => {
  const choice = chooseHeld([held(1, { attempt: 3 }), held(2, { attempt: 2 })], rules)
  expect([offsets(choice.dead), offsets(choice.again)]).toEqual([[1], [2]])
})

test('a message group of which somebody has a message waits, also for what comes before it', () => {
  const messages = [held(1, { orderHash: 7 }), held(2, { orderHash: 8 }), held(3, { orderHash: 7, visibleAt: 101 })]
  const choice = chooseHeld(messages, rules)
  expect(offsets(choice.again)).toEqual([2])
  expect([...choice.waiting]).toEqual([7])
  expect(offsets(chooseHeld(messages, { ...rules, ordered: false }).again)).toEqual([1, 2])
})

test('behind the limit, and behind a dead one, a message group waits', () => {
  const messages = [
    held(1, { orderHash: 7, attempt: 3 }),
    held(2, { orderHash: 7 }),
    held(3),
    held(4, { orderHash: 9 }),
  ]
  const choice = chooseHeld(messages, { ...rules, messagesMax: 1 })
  expect([offsets(choice.dead), offsets(choice.again)]).toEqual([[1], [3]])
  expect([...choice.waiting]).toEqual([7, 9])
})

test('the cursor passes what does not match, and what has to wait as long as it may be kept', () => {
  const candidates = [
    { offset: 4, orderHash: 0, matches: false },
    { offset: 5, orderHash: 3, matches: true },
    { offset: 6, orderHash: 7, matches: false },
    { offset: 7, orderHash: 7, matches: true },
    { offset: 8, orderHash: 0, matches: true },
  ]
  const choose = (messagesMax: number, waiting: readonly number[], waitingMax = 0) =>
    chooseUnseen(candidates, { cursor: 4, messagesMax, waitingMax, waitingGroups: new Set(waiting) })
  expect(choose(10, [7])).toEqual({ first: [{ offset: 5, orderHash: 3 }], waiting: [], cursor: 7 })
  expect(choose(10, [3, 7], 1)).toEqual({ first: [], waiting: [{ offset: 5, orderHash: 3 }], cursor: 7 })
  const passed = [5, 7].map((offset) => ({ offset, orderHash: offset === 5 ? 3 : 7 }))
  expect(choose(10, [3, 7], 2)).toEqual({ first: [{ offset: 8, orderHash: 0 }], waiting: passed, cursor: 9 })
  expect(offsets(choose(10, []).first)).toEqual([5, 7, 8])
  expect(choose(1, [])).toEqual({ first: [{ offset: 5, orderHash: 3 }], waiting: [], cursor: 7 })
  expect(choose(10, [3])).toEqual({ first: [], waiting: [], cursor: 5 })
})
