/** What the judge leaves to others: votes, steps of the configuration, promises of disks. */
import { expect, test } from 'vitest'
import type { Membership } from '../../src/broker/membership/membership.ts'
import { encodeSegmentHeader, segmentHeaderBytes } from '../../store/segment-header.ts'
import { Ballots } from './ballots.ts'
import { wrongStep } from './configuration-steps.ts'
import { Electorate, type Machine } from './electorate.ts'
import type { Committed, Judge } from './judge.ts'
import { KeptPromises } from './kept-promises.ts'
import { Rot, type Span } from './rot.ts'
import { chooseRotten } from './rot-choice.ts'
import type { SimNode } from './sim-node.ts'

const none: Membership = { voters: [], outgoing: [], learners: [], returning: [], priorities: [] }

function member(node: string): { node: string; disk: string; raftAddress: string } {
  return { node, disk: `disk of ${node}`, raftAddress: '' }
}

function members(text: string): ReturnType<typeof member>[] {
  return [...text].map((node) => member(node))
}

test('R1: a leader needs a majority of the new and of the old voters, each by its own disk', () => {
  const ballots = new Ballots()
  const joint = { ...none, voters: members('abd'), outgoing: members('abc') }
  for (const node of ['a', 'd']) expect(ballots.cast(3, member(node), 'a')).toBeNull()
  expect(ballots.cast(3, { node: 'b', disk: 'another' }, 'a')).toBeNull()
  expect(ballots.elected(3, 'a', joint)).toContain('by the votes of a, of the voters a b c')
  expect(ballots.cast(3, member('c'), 'a')).toBeNull()
  expect(ballots.elected(3, 'a', joint)).toBeNull()
  expect(ballots.elected(4, 'a', joint)).toContain('nobody')
  expect(ballots.cast(3, member('c'), 'd')).toContain('voted for a and for d')
})

test('R3: a vote goes to a log that is at least as complete as the own one', () => {
  const ballots = new Ballots()
  ballots.stands(5, 'a', { index: 9, term: 3 })
  expect(ballots.granted(5, 'a', { index: 9, term: 3 })).toBeNull()
  expect(ballots.granted(5, 'a', { index: 20, term: 2 })).toBeNull()
  expect(ballots.granted(5, 'a', { index: 10, term: 3 })).toContain('whose log ends with 9 of term 3')
  expect(ballots.granted(5, 'a', { index: 4, term: 4 })).toContain('the own one with 4 of term 4')
  expect(ballots.granted(6, 'a', { index: 99, term: 4 })).toBeNull()
})

test('R3: a vote is judged by the log that it was given with, not by what another leader has sent since', () => {
  const ballots = new Ballots()
  ballots.stands(5, 'a', { index: 9, term: 3 })
  const voter = (term: number, leader: string | null): SimNode => {
    const raftStatus = (): object => ({ term, leader, lastIndex: 10, lastTerm: 4 })
    return { name: 'v', broker: { replica: { raftStatus } } } as unknown as SimNode
  }
  expect(ballots.grants(voter(5, null), 5, 'a')).toContain('v voted in term 5 for a')
  expect(ballots.grants(voter(5, 'a'), 5, 'a')).toContain('v voted in term 5 for a')
  expect(ballots.grants(voter(6, null), 5, 'a')).toBeNull()
  expect(ballots.grants(voter(5, 'b'), 5, 'a')).toBeNull()
})

test('R1: a configuration is begun from a committed one, in a term that has started, voters by a joint step', () => {
  const simple = { index: 4, membership: { ...none, voters: members('abc') } }
  const joint = { index: 9, membership: { ...none, voters: members('abcd'), outgoing: members('abc') } }
  const left = { index: 12, membership: { ...none, voters: members('abcd') } }
  const facts = { term: 2, commit: 8, isTermStarted: true, placed: [simple, joint] }
  expect(wrongStep(facts)).toBeNull()
  expect(wrongStep({ ...facts, isTermStarted: false })).toContain('before an entry of term 2')
  expect(wrongStep({ ...facts, placed: [simple, left] })).toContain('at once')
  expect(wrongStep({ ...facts, placed: [simple, joint, left] })).toContain('9 is not committed')
  expect(wrongStep({ ...facts, commit: 9, placed: [joint, left] })).toBeNull()
})

test('R5: what a leader commits counts by the configuration that only its own log has, also when it died since', () => {
  // Nobody runs who has it in the log.
  const nodes = [...'abcd'].map((name) => ({ name, diskId: `disk of ${name}`, broker: null }))
  const electorate = new Electorate(() => nodes as unknown as readonly SimNode[], [...'abc'])
  const holds = ({ name }: Machine): boolean => name === 'a' || name === 'd'
  electorate.applied(5, { ...none, voters: members('abd'), outgoing: members('abc') })
  expect(electorate.isMajority(7, holds)).toBe(false)
  electorate.begun({ index: 8, membership: { ...none, voters: members('abd') } })
  expect(electorate.isMajority(7, holds)).toBe(true)
  // Something else came in its place.
  expect(electorate.isMajority(9, holds)).toBe(false)
  electorate.applied(10, { ...none, voters: members('abcd'), outgoing: members('abc') })
  expect(electorate.isMajority(7, holds)).toBe(false)
})

test('S1: an acknowledged entry counts when it is the one that the group commits', () => {
  const terms = [1, 1, 3]
  const promises = new KeptPromises((index) => {
    const term = terms[index - 1]
    return term === undefined ? undefined : ({ index, term } as Committed)
  })
  const a = { name: 'a', diskId: 'disk of a' }
  promises.holds('disk of a', 1)
  promises.acknowledges('a', { index: 3, term: 2 })
  expect(promises.of(a)).toBe(1)
  promises.acknowledges('a', { index: 3, term: 3 })
  expect(promises.of(a)).toBe(3)
  promises.forget('a')
  expect(promises.of(a)).toBe(1)
  expect(promises.of({ name: 'a', diskId: 'another' })).toBe(0)
})

/** A node whose replica has a term and some holes and votes, and what its disk says of a quarantine. */
interface RottenNode {
  readonly name: string
  readonly disk: { flipBit(): void; clone(): object }
  quarantine: { readonly pending: boolean; readonly untilLeaderReached?: boolean } | null
  readonly broker: {
    readonly replica: {
      term: number
      readonly log: { holes: readonly object[] }
      raftStatus(): { readonly term: number; readonly quarantine: object | null }
    }
  }
}

function rottenNode(quarantine: RottenNode['quarantine'], holes: readonly object[]): RottenNode {
  const replica: RottenNode['broker']['replica'] = {
    term: 5,
    log: { holes },
    raftStatus: () => ({ term: replica.term, quarantine: null }),
  }
  const disk = { flipBit: () => {}, clone: () => ({}) }
  return { name: 'a', disk, quarantine, broker: { replica } }
}

function rotOf(failures: string[], nowMs: () => number, isDurable: () => boolean = () => true): Rot {
  return new Rot({
    nodes: () => [],
    path: () => '',
    offsetOf: () => 0,
    isDurableOn: isDurable,
    isMember: () => true,
    nowMs,
    fail: (text) => failures.push(text),
  })
}

test('P6: a vote that was on its way when a hole was found may leave, whatever the disk still says of an earlier one', () => {
  const failures: string[] = []
  let nowMs = 0
  const rot = rotOf(failures, () => nowMs)
  const fake = rottenNode({ pending: true }, [{}])
  const node = fake as unknown as SimNode
  const replica = fake.broker.replica as unknown as Parameters<Rot['seesHoles']>[1]
  rot.began(node, replica)
  rot.seesHoles(node, replica)
  nowMs++
  fake.broker.replica.log.holes = []
  rot.quarantineEnded(node)
  // It votes in term 6, and an entry rots before the vote and the end of the quarantine are on its disk.
  fake.broker.replica.term = 6
  fake.broker.replica.log.holes = [{}]
  rot.seesHoles(node, replica)
  nowMs++
  rot.onVote(node, 6)
  expect(failures).toEqual([])
  rot.onVote(node, 7)
  expect(failures.join()).toContain('votes in term 7 with holes')
})

test('P6: a replica that begins with holes has no vote on its way', () => {
  const failures: string[] = []
  const rot = rotOf(failures, () => 1)
  const fake = rottenNode({ pending: true }, [{}])
  const node = fake as unknown as SimNode
  const replica = fake.broker.replica as unknown as Parameters<Rot['seesHoles']>[1]
  rot.began(node, replica)
  rot.seesHoles(node, replica)
  rot.onVote(node, 5)
  expect(failures.join()).toContain('votes in term 5 with holes')
})

test('P6: what rots when a quarantine has ended keeps nobody in it, whatever the disk still says', () => {
  let isDurable = false
  const rot = rotOf(
    [],
    () => 1,
    () => isDurable,
  )
  const fake = rottenNode({ pending: true }, [])
  const node = fake as unknown as SimNode
  rot.injure(node, { index: 3, position: 0, bytes: Buffer.alloc(64) }, 0.5)
  fake.quarantine = null
  expect(rot.unhealed(node)).toContain('entry 3 of a is rotten')
  // The group gives it up before anybody reads it.
  isDurable = true
  expect(rot.unhealed(node)).toBeNull()
})

test('S1: a replica that begins again in the same process may meet rot that the last one never read', () => {
  const rot = rotOf(
    [],
    () => 1,
    () => false,
  )
  const fake = rottenNode(null, [])
  const node = fake as unknown as SimNode
  rot.injure(node, { index: 3, position: 0, bytes: Buffer.alloc(64) }, 0.5)
  rot.ended(node)
  fake.quarantine = { pending: true, untilLeaderReached: true }
  rot.began(node, fake.broker.replica as unknown as Parameters<Rot['began']>[1])
  expect(rot.isCut(node)).toBe(true)
})

/** First and last entry that the newest one may rot of, on one of three nodes with 64 bytes an entry, all durable. */
function rottenOf(terms: readonly number[], damage: Span | null): readonly number[] {
  const position = terms.length * 64
  const mark = { sequence: 1, position, index: terms.length, term: terms.at(-1) as number }
  const previous = { index: 0, term: 0, checksum: 0 }
  const header = encodeSegmentHeader({ incarnation: 'i', segmentBytes: 65_536, base: 0, previous }, mark)
  const disk = {
    paths: () => ['log/0'],
    durableRangeOf: () => Buffer.concat([header], segmentHeaderBytes),
  }
  const nodes = [...'abc'].map((name) => ({ name, disk, logDirectory: 'log' })) as unknown as readonly SimNode[]
  const [node] = nodes as [SimNode]
  const entries = terms.map((term, at) => ({ index: at + 1, term, position: at * 64, bytes: Buffer.alloc(64) }))
  const judge = {
    electorate: { isSimple: true, isVoter: () => true, voters: [...'abc'] },
    lastCommitted: terms.length,
    messages: { trimmedBefore: 0 },
    rot: { damageOf: (other: SimNode) => (other === node ? damage : null), unhealed: () => null },
    committedAt: (index: number) => entries[index - 1],
    isOnDisk: (other: SimNode, { index }: Committed) =>
      other !== node || index < (damage?.from ?? 99) || index > (damage?.to ?? 0),
  }
  const event = { kind: 'bit_rot', atMs: 0, node: 'a', depth: 0, entries: 1, places: [0], downMs: null } as const
  const choice = { judge: judge as unknown as Judge, nodes, mayCut: false }
  return chooseRotten(node, event, choice).map(({ index }) => index)
}

test('rot that must not cost the end of a log lies in one term, with all that may become one hole with it', () => {
  expect(rottenOf([1, 1, 1, 1, 1, 1], null)).toEqual([4])
  // What stands behind may be put back with the padding before it, so that the next one closes the hole.
  expect(rottenOf([1, 1, 1, 1, 1, 2], null)).toEqual([3])
  expect(rottenOf([1, 1, 1, 1, 1, 1, 1], { from: 2, to: 2 })).toEqual([5])
  // Between two headers that are lost nothing can be proven, not even where the term changes.
  expect(rottenOf([1, 1, 1, 2, 2, 2, 2, 2], { from: 2, to: 2 })).toEqual([])
})
