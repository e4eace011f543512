/** How failed attempts are told. */
import { expect, test } from 'vitest'
import { failureAt } from '../../../src/client/attempt-line.ts'
import { LedgerError } from '../../../src/common/errors.ts'

test('an attempt names its address once, whoever made the message', () => {
  const ours = new LedgerError('NOT_LEADER', 'n1 leads in term 3')
  const library = new LedgerError('UNAVAILABLE', '127.0.0.1:9876: connect ECONNREFUSED 127.0.0.1:9876')
  expect(failureAt('127.0.0.1:9876', ours)).toBe('127.0.0.1:9876: NOT_LEADER n1 leads in term 3')
  expect(failureAt('127.0.0.1:9876', library)).toBe('127.0.0.1:9876: UNAVAILABLE connect ECONNREFUSED 127.0.0.1:9876')
})
