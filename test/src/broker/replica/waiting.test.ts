/** The waiting places of callers: proposals, held requests, current reads. Each caller gets exactly one answer. */
import { expect, test } from 'vitest'
import type { Applied } from '../../../../src/broker/contract.ts'
import { HoldQueue } from '../../../../src/broker/replica/hold-queue.ts'
import { type Caller, Proposals } from '../../../../src/broker/replica/proposals.ts'
import { Reads } from '../../../../src/broker/replica/reads.ts'
import { LedgerError } from '../../../../src/common/errors.ts'

const none = { kind: 'none' } as const
const leader = { node: 'n2', address: 'b:1', term: 4 }

function caller(answers: string[], name: string, deadlineMs = 1000): Caller {
  return {
    bytes: 10,
    deadlineMs,
    resolve: ({ index, term }: Applied) => answers.push(`${name} ${index}/${term}`),
    reject: (error) => answers.push(`${name} ${error.code} ${error.facts.leader?.node ?? ''}`.trim()),
  }
}

test('a proposal is answered by the entry at its index, and only if that is of its own term', () => {
  const answers: string[] = []
  const proposals = new Proposals()
  proposals.accepted(7, 3, caller(answers, 'a'))
  proposals.accepted(8, 3, caller(answers, 'b'))
  expect(proposals.bytes).toBe(20)
  proposals.applied(7, 3, none)
  proposals.applied(8, 4, none)
  proposals.applied(9, 4, none)
  expect(answers).toEqual(['a 7/3', 'b ROLLED_BACK'])
  expect([proposals.count, proposals.bytes]).toEqual([0, 0])
})

test('a deposed leader tells at once that the outcome is unknown, except where it is known already', () => {
  const answers: string[] = []
  const proposals = new Proposals()
  for (const index of [5, 6, 7]) proposals.accepted(index, 3, caller(answers, `p${index}`))
  proposals.deposed(5, leader)
  expect(answers).toEqual(['p6 OUTCOME_UNKNOWN n2', 'p7 OUTCOME_UNKNOWN n2'])
  proposals.applied(5, 3, none)
  expect(answers.at(-1)).toBe('p5 5/3')
})

test('a proposal whose index is given out again by a later term is not forgotten', () => {
  const answers: string[] = []
  const proposals = new Proposals()
  proposals.accepted(5, 3, caller(answers, 'old'))
  proposals.accepted(5, 4, caller(answers, 'new'))
  proposals.abort(5, 3)
  proposals.applied(5, 4, none)
  expect(answers).toEqual(['old OUTCOME_UNKNOWN', 'new 5/4'])
})

test('deadlines end the wait, each its own', () => {
  const answers: string[] = []
  const proposals = new Proposals()
  proposals.accepted(1, 1, caller(answers, 'early', 100))
  proposals.accepted(2, 1, caller(answers, 'late', 200))
  proposals.expire(100)
  expect(answers).toEqual(['early OUTCOME_UNKNOWN'])
  proposals.failAll('stop')
  expect(answers).toEqual(['early OUTCOME_UNKNOWN', 'late OUTCOME_UNKNOWN'])
})

test('held requests are offered first in, first out, and none overtakes one that has to wait', () => {
  const queue = new HoldQueue({ bytesMax: 25, countMax: 10 })
  const log: string[] = []
  let open = 1
  const held = (name: string, untilMs: number): Parameters<HoldQueue['add']>[0] => ({
    bytes: 10,
    untilMs,
    attempt: () => {
      if (open === 0) return 'hold'
      open--
      log.push(name)
      return 'settled'
    },
    expired: () => log.push(`${name} expired`),
    reject: (error: LedgerError) => log.push(`${name} ${error.code}`),
  })
  queue.add(held('a', 100))
  queue.add(held('b', 100))
  expect(queue.hasRoomFor(10)).toBe(false)
  queue.retry()
  expect(log).toEqual(['a'])
  expect(queue.hasRoomFor(10)).toBe(true)
  queue.add(held('c', 50))
  queue.expire(50)
  expect(log).toEqual(['a', 'c expired'])
  queue.failAll(new LedgerError('CLOSED', 'end'))
  expect(log).toEqual(['a', 'c expired', 'b CLOSED'])
  expect([queue.count, queue.bytes]).toEqual([0, 0])
})

test('reads of one turn share a round; later ones do not join it; all wait until apply has caught up', () => {
  const reads = new Reads()
  const log: string[] = []
  const reader = (name: string): Parameters<Reads['began']>[0] => ({
    deadlineMs: 1000,
    resolve: () => log.push(name),
    again: () => log.push(`${name} again`),
    reject: (error) => log.push(`${name} ${error.code}`),
  })
  reads.began(reader('a'))
  expect(reads.join(reader('b'))).toBe(true)
  reads.endTurn()
  expect(reads.join(reader('c'))).toBe(false)
  const second = reads.nextContext()
  reads.began(reader('c'))
  reads.confirmed(1, 5, 4)
  expect(log).toEqual([])
  reads.applied(5)
  expect(log).toEqual(['a', 'b'])
  reads.dropped([second])
  expect(log).toEqual(['a', 'b', 'c again'])
  expect(reads.count).toBe(0)
})

test('a read goes on when its own round is confirmed, though the answer to an earlier one was lost', () => {
  const reads = new Reads()
  const log: string[] = []
  for (const name of ['first', 'second']) {
    reads.began({
      deadlineMs: 1000,
      resolve: () => log.push(name),
      again: () => log.push(`${name} again`),
      reject: (error) => log.push(`${name} ${error.code}`),
    })
    reads.endTurn()
  }
  reads.confirmed(2, 9, 5)
  reads.applied(9)
  expect(log).toEqual(['second'])
  reads.failAll(new LedgerError('SERVICE_NOT_AVAILABLE', 'stopping'))
  expect(log).toEqual(['second', 'first SERVICE_NOT_AVAILABLE'])
})

test('a round whose readers have all given up is forgotten, also where nothing is applied any more', () => {
  const reads = new Reads()
  const log: string[] = []
  const reader = (deadlineMs: number): Parameters<Reads['began']>[0] => ({
    deadlineMs,
    resolve: () => log.push('resolved'),
    again: () => log.push('again'),
    reject: (error) => log.push(error.code),
  })
  reads.began(reader(100))
  reads.join(reader(200))
  reads.endTurn()
  reads.confirmed(1, 9, 5)
  const late = (): LedgerError => new LedgerError('NO_QUORUM', 'too late')
  reads.expire(100, late)
  expect([reads.rounds, reads.count]).toEqual([1, 1])
  reads.expire(200, late)
  expect([reads.rounds, reads.count]).toEqual([0, 0])
  reads.applied(9)
  reads.dropped([1])
  expect(log).toEqual(['NO_QUORUM', 'NO_QUORUM'])
})
