import { describe, expect, test } from 'vitest'
import { checkGroupName, checkTopicName } from '../../../src/message/names.ts'

const bad = [
  '',
  '../x',
  '..\\x',
  '/absolute',
  'a b',
  'a\u0000',
  'naïve',
  '%DLQ%group',
  'a|b',
  'rmq_sys_x',
  'RMQ_SYS_X',
  '__proto__',
  'constructor',
  'toString',
]

describe('names from clients', () => {
  test.each(bad)('%j is refused with INVALID_PARAMETER for topics and groups', (name) => {
    for (const check of [checkTopicName, checkGroupName]) {
      expect(() => check(name)).toThrow(expect.objectContaining({ code: 'INVALID_PARAMETER' }))
    }
  })

  test.each(['a', 'A-1_b', 'CON', 't'.repeat(120)])('%j is fine', (name) => {
    checkTopicName(name)
    checkGroupName(name)
  })

  test('topics may have 127 characters, groups 120', () => {
    checkTopicName('t'.repeat(127))
    expect(() => checkTopicName('t'.repeat(128))).toThrow(/topic name .* has 128 characters, at most 127/)
    expect(() => checkGroupName('g'.repeat(121))).toThrow(/group name .* has 121 characters, at most 120/)
  })
})
