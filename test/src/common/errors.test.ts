/** The table of errors: its numbers are what travels. */
import { expect, test } from 'vitest'
import { errorTable } from '../../../src/common/errors.ts'

test('every error has a number of its own, and a hint', () => {
  const owners = new Map<number, string>()
  for (const [code, { number, hint }] of Object.entries(errorTable)) {
    expect(owners.get(number), `${code} has the number of another error`).toBeUndefined()
    owners.set(number, code)
    expect(hint, code).not.toBe('')
  }
})
