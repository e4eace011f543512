import { expect, test } from 'vitest'
import { readTransactionId, transactionIdOf } from '../../../src/message/transaction-id.ts'

const name = { index: 2 ** 53 - 1, record: 1023, storeTime: 1_700_000_000_123 }

test('a transaction id is read as it was made', () => {
  const id = transactionIdOf(name, 'g')
  expect(id).toMatch(/^[0-9A-F]{40}$/)
  expect(readTransactionId(id, 'g')).toEqual(name)
  const small = { index: 1, record: 0, storeTime: 0 }
  expect(readTransactionId(transactionIdOf(small, 'g'), 'g')).toEqual(small)
})

test('an id of another broker group is refused', () => {
  expect(() => readTransactionId(transactionIdOf(name, 'g'), 'h')).toThrow(/none of broker group h/)
})

test('every changed digit is noticed', () => {
  const id = transactionIdOf({ index: 7, record: 3, storeTime: 5 }, 'g')
  for (let at = 0; at < id.length; at++) {
    const other = id[at] === '0' ? '1' : '0'
    const changed = id.slice(0, at) + other + id.slice(at + 1)
    expect(() => readTransactionId(changed, 'g'), changed).toThrow(
      expect.objectContaining({ code: 'INVALID_PARAMETER' }),
    )
  }
})

test.each(['', 'x', 'a'.repeat(40), '0'.repeat(40), '0'.repeat(41), null, 5])('%j is no transaction id', (id) => {
  expect(() => readTransactionId(id as string, 'g')).toThrow(expect.objectContaining({ code: 'INVALID_PARAMETER' }))
})
