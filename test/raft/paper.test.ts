/**
 * One test per claim of the Raft paper ("In Search of an Understandable Consensus Algorithm", extended version) and
 * of the thesis ("Consensus: Bridging Theory and Practice"), the section in the title.
 */
import { describe, expect, test } from 'vitest'
import { acknowledge, Cluster, electByHand, entriesOf, ManualNode } from './support.ts'

describe('Raft 5.1 and 5.2: terms and elections', () => {
  test('5.2: a node that hears nothing stands for election after a random time between min and max', () => {
    const early = new ManualNode({ random: () => 0 })
    const late = new ManualNode({ random: () => 0.999 })
    expect(early.core.deadline()).toBe(500)
    expect(late.core.deadline()).toBeCloseTo(999.5)
    early.wait(499)
    expect(early.status.role).toBe('follower')
    early.wait(1)
    expect(early.status.role).toBe('pre_candidate')
  })

  test('5.2: three nodes elect exactly one leader, whose no-op is committed everywhere', () => {
    const cluster = new Cluster()
    const leader = cluster.runUntilLed()
    cluster.run(200)
    for (const id of cluster.ids) expect(cluster.status(id)).toMatchObject({ leader, commit: 1, lastIndex: 1 })
    expect(cluster.log(leader)[0]).toMatchObject({ kind: 'noop', term: cluster.status(leader).term })
  })

  test('R1 5.2: a node votes once per term, first come first served', () => {
    const node = new ManualNode()
    node.receive({ ...voteRequest('n1', 1), lastIndex: 0, lastTerm: 0 })
    node.receive({ ...voteRequest('n2', 1), lastIndex: 0, lastTerm: 0 })
    node.receive({ ...voteRequest('n1', 1), lastIndex: 0, lastTerm: 0 })
    node.persist()
    const answers = node.take('vote_response').map(({ to, refusal }) => [to, refusal])
    expect(answers).toEqual([
      ['n1', null],
      ['n2', 'voted_for_other'],
      ['n1', null],
    ])
  })

  test('R1 5.2: a vote survives a restart', () => {
    const node = new ManualNode({ term: 4, vote: 'n1' })
    node.receive(voteRequest('n2', 4))
    node.persist()
    expect(node.take('vote_response')).toMatchObject([{ refusal: 'voted_for_other' }])
  })

  test('R1 3.8 thesis: neither a vote nor a refusal leaves before term and vote are durable', () => {
    const node = new ManualNode({ terms: [1, 1] })
    node.receive({ ...voteRequest('n1', 2), lastIndex: 2, lastTerm: 1 })
    node.receive(voteRequest('n2', 3))
    expect(node.take('vote_response')).toEqual([])
    expect(node.readies.map((ready) => [ready.mustSync, ready.hardState?.vote])).toEqual([
      [true, 'n1'],
      [true, null],
    ])
    node.persist()
    expect(node.take('vote_response').map(({ refusal }) => refusal)).toEqual([null, 'log_behind'])
  })

  test('R1 5.2: the own vote counts only once it is durable', () => {
    const node = new ManualNode({ voters: ['n0', 'n1', 'n2', 'n3', 'n4'] })
    node.step({ kind: 'campaign' })
    for (const from of ['n1', 'n2']) node.receive(preVoteGrant(from, 1))
    for (const from of ['n1', 'n2']) node.receive(voteGrant(from, 1))
    expect(node.status.role).toBe('candidate')
    node.persist()
    expect(node.status.role).toBe('leader')
    expect(node.eventsOf('leader_elected')).toMatchObject([{ term: 1, votes: ['n1', 'n2', 'n0'] }])
  })

  test('R1 5.2: the fsync of an earlier Ready does not count the own vote', () => {
    const node = new ManualNode()
    node.receive(heartbeat('n1', 1))
    const earlier = node.readies.at(-1)?.number as number
    node.step({ kind: 'campaign' })
    node.receive(preVoteGrant('n2', 2))
    node.receive(voteGrant('n2', 2))
    node.persist(earlier)
    expect(node.status).toMatchObject({ role: 'candidate', term: 2 })
    node.persist()
    expect(node.status.role).toBe('leader')
  })

  test('5.2: a candidate sends vote requests only after its own term and log are durable', () => {
    const node = new ManualNode()
    node.step({ kind: 'campaign' })
    node.receive(preVoteGrant('n1', 1))
    expect(node.take('vote_request')).toEqual([])
    node.persist()
    expect(node.take('vote_request').map(({ to, term }) => [to, term])).toEqual([
      ['n1', 1],
      ['n2', 1],
    ])
  })

  test('5.2: a candidate that hears a leader of its term follows it', () => {
    const node = new ManualNode()
    node.step({ kind: 'campaign' })
    node.receive(preVoteGrant('n1', 1))
    node.persist()
    node.receive(heartbeat('n1', 1))
    expect(node.status).toMatchObject({ role: 'follower', leader: 'n1', term: 1 })
  })

  test('5.2: a split round is retried after 50-150 ms, not after a whole timeout', () => {
    const node = new ManualNode()
    node.step({ kind: 'campaign' })
    node.receive(preVoteGrant('n1', 1))
    node.persist()
    node.receive({ ...voteGrant('n1', 1), refusal: 'voted_for_other' })
    expect(node.core.deadline()).toBe(100)
    node.wait(100)
    expect(node.status).toMatchObject({ role: 'pre_candidate', term: 1 })
  })

  test('5.1: a leader that hears of a higher term follows at once', () => {
    const node = leaderOf3()
    node.receive({ kind: 'heartbeat_response', from: 'n1', to: 'n0', term: 9, round: 0, session: 0, canLead: true })
    expect(node.status).toMatchObject({ role: 'follower', term: 9, leader: null })
    expect(node.eventsOf('role_changed').at(-1)).toMatchObject({ reason: 'higher_term' })
  })

  test('5.1: a leader of a lower term is told the higher one, so that nobody is stuck', () => {
    const node = new ManualNode({ term: 5 })
    node.receive(heartbeat('n1', 3))
    node.receive({ ...append('n1', 3), prevIndex: 0, prevTerm: 0 })
    expect(node.take().map(({ kind, term }) => [kind, term])).toEqual([
      ['heartbeat_response', 5],
      ['append_response', 5],
    ])
    expect(node.status).toMatchObject({ term: 5, leader: null })
  })

  test('R1: two leaders of one term stop the node', () => {
    const leader = leaderOf3()
    expect(() => leader.receive(heartbeat('n1', leader.status.term))).toThrow(/^R1/)
    const follower = new ManualNode()
    follower.receive(heartbeat('n1', 3))
    expect(() => follower.receive(heartbeat('n2', 3))).toThrow(/^R1/)
  })

  test('5.4.1: a voter refuses a candidate whose log is less complete', () => {
    const cases: [number, number, string | null][] = [
      [3, 2, null],
      [4, 2, null],
      [1, 3, null],
      [2, 2, 'log_behind'],
      [9, 1, 'log_behind'],
    ]
    for (const [lastIndex, lastTerm, refusal] of cases) {
      const node = new ManualNode({ terms: [1, 1, 2] })
      node.receive({ ...voteRequest('n1', 4), lastIndex, lastTerm })
      node.persist()
      expect(node.take('vote_response')).toMatchObject([{ refusal }])
    }
  })
})

describe('Raft 5.3: log replication', () => {
  test('R2 5.3: an append whose previous entry does not match is refused, and nothing changes', () => {
    const node = new ManualNode({ terms: [1, 1] })
    node.receive({ ...append('n1', 2), prevIndex: 2, prevTerm: 2, entries: entriesOf(3, [2]) })
    node.receive({ ...append('n1', 2), prevIndex: 3, prevTerm: 1, entries: entriesOf(4, [2]) })
    expect(node.status.lastIndex).toBe(2)
    node.persist()
    const answers = node.take('append_response')
    expect(answers.map(({ rejected }) => rejected?.rejectedIndex)).toEqual([2, 3])
  })

  test('R2 5.3: conflicting entries are cut and replaced, those that agree are kept', () => {
    const node = new ManualNode({ terms: [1, 1, 1, 2, 2] })
    node.receive({ ...append('n1', 3), prevIndex: 2, prevTerm: 1, entries: entriesOf(3, [1, 3]) })
    const ready = node.readies.find((taken) => taken.append.length > 0)
    expect(ready).toMatchObject({ truncateFrom: 4, mustSync: true, append: [{ index: 4, term: 3 }] })
    expect(node.status).toMatchObject({ lastIndex: 4, lastTerm: 3, stableIndex: 3 })
  })

  test('R2 5.3: a late duplicate of an append that is shorter than the log cuts nothing', () => {
    const node = new ManualNode({ terms: [1, 1, 1] })
    node.receive({ ...append('n1', 1), prevIndex: 0, prevTerm: 0, entries: entriesOf(1, [1, 1]) })
    expect(node.status.lastIndex).toBe(3)
    expect(node.readies.some((ready) => ready.truncateFrom !== undefined)).toBe(false)
  })

  test('R6 5.3: a cut at or below commit stops the node', () => {
    const node = new ManualNode({ terms: [1, 1, 1], commit: 2 })
    const conflict = { ...append('n1', 2), prevIndex: 1, prevTerm: 1, entries: entriesOf(2, [2]) }
    expect(() => node.receive(conflict)).toThrow(/^R6/)
    const other = new ManualNode({ terms: [1, 1, 1], commit: 2 })
    expect(() => other.receive({ ...append('n1', 2), prevIndex: 2, prevTerm: 2 })).toThrow(/^R6/)
  })

  test('5.3: the commit of an append counts only up to what that append proves', () => {
    const node = new ManualNode({ terms: [1, 1, 1] })
    node.receive({ ...append('n1', 2), prevIndex: 1, prevTerm: 1, commit: 3 })
    expect(node.status.commit).toBe(1)
    node.receive({ ...append('n1', 2), prevIndex: 1, prevTerm: 1, entries: entriesOf(2, [1]), commit: 3 })
    expect(node.status.commit).toBe(2)
  })

  test('5.3: going back takes one probe per term of disagreement, not one per entry', () => {
    const agreed = Array.from({ length: 20 }, () => 1)
    const old = (term: number) => Array.from({ length: 30 }, () => term)
    const cluster = new Cluster({
      boots: {
        n0: { terms: [...agreed, ...old(2), ...old(4)], term: 6 },
        n1: { terms: [...agreed, ...old(3), ...old(5)], term: 6 },
        n2: { terms: [...agreed, ...old(3), ...old(5)], term: 6 },
      },
    })
    const refusals = new Map<string, number>()
    cluster.filter = (message) => {
      if (message.kind === 'append_response' && message.rejected !== null) {
        refusals.set(message.from, (refusals.get(message.from) ?? 0) + 1)
      }
      return true
    }
    cluster.step('n1', { kind: 'campaign' })
    cluster.runUntil(() => cluster.status('n0').lastIndex === 81, 3_000)
    // Each refusal is seen twice: when it leaves and when it arrives.
    expect((refusals.get('n0') ?? 0) / 2).toBeLessThanOrEqual(2)
    expect(cluster.log('n0').map((entry) => entry.term)).toEqual(cluster.log('n1').map((entry) => entry.term))
  })

  test('R2 R3 figure 7: every kind of divergent follower is brought to the log of the leader', () => {
    const leaderTerms = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
    const followers = {
      a: [1, 1, 1, 4, 4, 5, 5, 6, 6],
      b: [1, 1, 1, 4],
      c: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
      d: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
      e: [1, 1, 1, 4, 4, 4, 4],
      f: [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    }
    const names = Object.keys(followers) as (keyof typeof followers)[]
    const boots: Record<string, { terms: number[]; term: number }> = { l: { terms: leaderTerms, term: 7 } }
    for (const name of names) boots[name] = { terms: followers[name], term: 7 }
    const cluster = new Cluster({ nodes: ['l', ...names], boots })
    cluster.step('l', { kind: 'campaign' })
    cluster.runUntil(() => names.every((name) => cluster.log(name).length === 11), 3_000)
    cluster.run(300)
    for (const name of names) expect(cluster.log(name).map((entry) => entry.term)).toEqual([...leaderTerms, 8])
  })

  test('5.3: a leader never changes or cuts its own entries', () => {
    const node = leaderOf3()
    node.propose(1, 1, 1)
    acknowledge(node, 'n1')
    expect(node.readies.every((ready) => ready.truncateFrom === undefined)).toBe(true)
  })
})

describe('Raft 5.4: safety', () => {
  test('R5 5.4.2 figure 8: an entry of an older term is not committed by counting copies', () => {
    const node = new ManualNode({ voters: ['n0', 'n1', 'n2', 'n3', 'n4'], terms: [1, 2], term: 3 })
    electByHand(node, ['n1', 'n2'], false)
    const noop = node.status.lastIndex
    expect(node.status).toMatchObject({ term: 4, lastIndex: 3 })
    node.persist()
    // The entry of term 2 is on three of five disks, as in part (c) of the figure.
    for (const from of ['n1', 'n2', 'n3', 'n4']) acknowledge(node, from, 2)
    expect(node.status.commit).toBe(0)
    // With an entry of the own term on a majority it is safe, as in part (e).
    for (const from of ['n1', 'n2']) acknowledge(node, from, noop)
    expect(node.status.commit).toBe(noop)
  })

  test('R3 5.4.2 figure 8: part (d), an old entry on a majority is overwritten without harm', () => {
    const nodes = ['s1', 's2', 's3', 's4', 's5']
    const cluster = new Cluster({
      nodes,
      boots: {
        s1: { terms: [1, 2], term: 2 },
        s2: { terms: [1, 2], term: 2 },
        s3: { terms: [1], term: 2 },
        s4: { terms: [1], term: 2 },
        s5: { terms: [1, 3], term: 3 },
      },
    })
    // s1 leads again, copies entry 2 to s3, and dies before anyone has an entry of its new term.
    cluster.crash('s5')
    cluster.filter = (message) => message.kind !== 'append' || message.prevIndex < 2
    cluster.step('s1', { kind: 'campaign' })
    cluster.runUntil(() => cluster.leader() === 's1', 2_000)
    cluster.run(60)
    expect(cluster.status('s1').commit).toBe(0)
    cluster.crash('s1')
    cluster.heal()
    cluster.start('s5')
    cluster.runUntilLed(20_000)
    cluster.start('s1')
    cluster.run(3_000)
    cluster.judge.checkLogs(cluster)
    expect(new Set(nodes.map((id) => JSON.stringify(cluster.log(id).map((entry) => entry.term)))).size).toBe(1)
  })

  test('R3 5.4.3: committed entries outlive the leader that accepted them', () => {
    const cluster = new Cluster({ nodes: ['n0', 'n1', 'n2', 'n3', 'n4'], seed: 7 })
    const first = cluster.runUntilLed()
    cluster.propose(first, 5)
    cluster.runUntil(() => cluster.status(first).commit === 6, 1_000)
    const accepted = cluster.log(first).slice(0, 6)
    cluster.kill(first)
    const second = cluster.runUntilLed()
    expect(second).not.toBe(first)
    expect(cluster.log(second).slice(0, 6)).toEqual(accepted)
  })

  test('R5: the copy of the leader counts only once its own fsync returned', () => {
    const node = leaderOf3()
    const before = node.status.commit
    node.propose(10)
    acknowledge(node, 'n1')
    // n1 alone is no majority; the own disk has not answered.
    expect(node.status.commit).toBe(before)
    node.persist()
    expect(node.status.commit).toBe(before + 1)
  })

  test('R5: a leader commits before its own fsync when a majority of others is durable', () => {
    const node = leaderOf3()
    node.propose(10)
    const { lastIndex } = node.status
    acknowledge(node, 'n1')
    acknowledge(node, 'n2')
    expect(node.status.commit).toBe(lastIndex)
    // It does not apply what its own disk does not hold.
    expect(node.readies.at(-1)?.committed).toBeUndefined()
    node.persist()
    expect(node.readies.at(-1)?.committed).toEqual({ from: lastIndex, to: lastIndex })
  })

  test('S1 R5: a duplicate append is not acknowledged before the fsync of the first copy', () => {
    const node = new ManualNode()
    const message = { ...append('n1', 1), entries: entriesOf(1, [1, 1]) }
    node.receive(message)
    node.receive(message)
    node.receive({ ...append('n1', 1), prevIndex: 2, prevTerm: 1 })
    expect(node.take('append_response')).toEqual([])
    expect(node.readies.map((ready) => ready.append.length)).toEqual([2, 0, 0])
    node.persist()
    expect(node.take('append_response').map(({ matchIndex }) => matchIndex)).toEqual([2, 2, 2])
  })

  test('R5 ABA: the fsync of a copy that was cut does not count for the same entry written again', () => {
    const node = new ManualNode({ terms: [1], term: 1 })
    node.receive({ ...append('n1', 2), prevIndex: 1, prevTerm: 1, entries: entriesOf(2, [2]) })
    const first = node.readies.at(-1)?.number as number
    node.receive({ ...append('n2', 3), prevIndex: 1, prevTerm: 1, entries: entriesOf(2, [3]) })
    const second = node.readies.at(-1)?.number as number
    // A leader of term 4 that holds the entry of term 2 puts the same (index, term) back.
    node.receive({ ...append('n1', 4), prevIndex: 1, prevTerm: 1, entries: entriesOf(2, [2, 4]) })
    const third = node.readies.at(-1)?.number as number
    expect(node.status).toMatchObject({ lastIndex: 3, lastTerm: 4 })
    node.persist(first)
    expect(node.status.stableIndex).toBe(1)
    node.persist(second)
    expect(node.status.stableIndex).toBe(1)
    node.persist(third)
    expect(node.status.stableIndex).toBe(3)
  })

  test('R4: a heartbeat never carries a commit that the follower is not known to hold', () => {
    const node = leaderOf3()
    node.propose(1)
    acknowledge(node, 'n1')
    node.persist()
    node.take()
    node.wait(75)
    const commits = new Map(node.take('heartbeat').map(({ to, commit }) => [to, commit]))
    expect(commits.get('n1')).toBe(2)
    expect(commits.get('n2')).toBe(1)
  })

  test('R4: a heartbeat whose commit is beyond the log proves that the disk lost entries, and stops the node', () => {
    const node = new ManualNode({ terms: [1] })
    expect(() => node.receive({ ...heartbeat('n1', 1), commit: 2 })).toThrow(/^R4/)
  })

  test('R4: the stored commit never points beyond the own durable entries', () => {
    const node = new ManualNode()
    node.receive({ ...append('n1', 1), entries: entriesOf(1, [1, 1]), commit: 2 })
    expect(node.status).toMatchObject({ commit: 2, stableIndex: 0 })
    expect(node.readies.at(-1)?.hardState).toEqual({ term: 1, vote: null, commit: 0 })
    node.persist()
    expect(node.readies.at(-1)?.hardState).toEqual({ term: 1, vote: null, commit: 2 })
    expect(node.readies.at(-1)?.committed).toEqual({ from: 1, to: 2 })
  })
})

describe('thesis 3.10: leadership transfer', () => {
  test('3.10: the target catches up, is told to stand at once, and takes over within its lease', () => {
    const cluster = new Cluster()
    const leader = cluster.runUntilLed()
    const target = cluster.ids.find((id) => id !== leader) as string
    cluster.propose(leader, 3)
    cluster.step(leader, { kind: 'transfer', to: target })
    expect(cluster.propose(leader)).toEqual({ kind: 'refused', refusal: { kind: 'transferring', to: target } })
    const tookMs = cluster.runUntil(() => cluster.leader() === target, 500)
    expect(tookMs).toBeLessThan(50)
    const ended = cluster.events.find(({ event }) => event.kind === 'transfer_ended')
    expect(ended).toMatchObject({ id: leader, event: { to: target, outcome: 'done' } })
    const reasons = cluster.events.flatMap(({ event }) => (event.kind === 'role_changed' ? [event.reason] : []))
    expect(reasons).toContain('ordered')
    expect(reasons).toContain('transferred')
  })
})

describe('thesis 4.2.3 and 9.6: disruptive servers', () => {
  test('9.6: a node that is cut off does not raise its term, however long it takes', () => {
    const cluster = new Cluster()
    const leader = cluster.runUntilLed()
    const term = cluster.status(leader).term
    const alone = cluster.ids.find((id) => id !== leader) as string
    cluster.cut(cluster.ids.filter((id) => id !== alone))
    cluster.run(20_000)
    expect(cluster.status(alone)).toMatchObject({ term, role: 'pre_candidate' })
    cluster.heal()
    cluster.run(2_000)
    expect(cluster.leader()).toBe(leader)
    expect(cluster.status(alone)).toMatchObject({ term, leader })
  })

  test('9.6: a pre-vote changes neither term nor vote nor timers of the voter', () => {
    const node = new ManualNode({ term: 3, vote: 'n2' })
    const before = [node.status, node.core.deadline()]
    node.receive(preVoteRequest('n1', 4))
    node.persist()
    expect(node.take('pre_vote_response')).toMatchObject([{ term: 4, refusal: null }])
    expect([node.status, node.core.deadline()]).toEqual(before)
  })

  test('9.6: a pre-vote for a lower term is refused with the own term, and the asker takes it over', () => {
    const node = new ManualNode({ term: 8 })
    node.receive(preVoteRequest('n1', 3))
    node.persist()
    expect(node.take('pre_vote_response')).toMatchObject([{ term: 8, refusal: 'old_term' }])
    const asker = new ManualNode({ id: 'n1', term: 2 })
    asker.step({ kind: 'campaign' })
    asker.receive({ kind: 'pre_vote_response', from: 'n0', to: 'n1', term: 8, refusal: 'old_term' })
    expect(asker.status).toMatchObject({ term: 8, role: 'follower' })
    asker.wait(150)
    expect(asker.status).toMatchObject({ term: 8, role: 'pre_candidate' })
  })

  test('4.2.3: while a leader lives, votes and pre-votes for others are refused and no term is taken over', () => {
    const node = new ManualNode()
    node.receive(heartbeat('n1', 1))
    node.now = 499
    node.receive(voteRequest('n2', 7))
    node.receive(preVoteRequest('n2', 7))
    node.persist()
    expect(node.take().filter(({ kind }) => kind !== 'heartbeat_response')).toMatchObject([
      { kind: 'vote_response', refusal: 'leader_seen' },
      { kind: 'pre_vote_response', refusal: 'leader_seen' },
    ])
    expect(node.status.term).toBe(1)
    node.now = 500
    node.receive(voteRequest('n2', 7))
    node.persist()
    expect(node.take('vote_response')).toMatchObject([{ refusal: null }])
  })

  test('4.2.3: an ordered election bypasses the lease', () => {
    const node = new ManualNode()
    node.receive(heartbeat('n1', 1))
    node.receive({ ...voteRequest('n2', 2), transfer: true })
    node.persist()
    expect(node.take('vote_response')).toMatchObject([{ term: 2, refusal: null }])
  })

  test('6.2: a leader that hears no quorum for the minimum election timeout steps down and says so', () => {
    const node = leaderOf3()
    node.wait(499)
    expect(node.status.role).toBe('leader')
    node.take()
    node.wait(1)
    expect(node.status.role).toBe('follower')
    expect(node.eventsOf('role_changed').at(-1)).toMatchObject({ reason: 'quorum_lost' })
    expect(node.take('stepped_down').map(({ to }) => to)).toEqual(['n1', 'n2'])
  })

  test('6.2: the quorum window slides with every answer', () => {
    const node = leaderOf3()
    for (let i = 0; i < 10; i++) {
      node.wait(400)
      node.receive({
        kind: 'heartbeat_response',
        from: i % 2 === 0 ? 'n1' : 'n2',
        to: 'n0',
        term: 1,
        round: 0,
        session: 0,
        canLead: true,
      })
    }
    expect(node.status.role).toBe('leader')
  })
})

describe('thesis 6.4: reads', () => {
  test('6.4: a read is answered after a quorum confirmed a round that began after it', () => {
    const node = leaderOf3()
    node.step({ kind: 'read_index', context: 42 })
    const round = node.take('heartbeat')[0]?.round as number
    node.receive({
      kind: 'heartbeat_response',
      from: 'n1',
      to: 'n0',
      term: 1,
      round: round - 1,
      session: 0,
      canLead: true,
    })
    expect(node.reads).toEqual([])
    node.receive({ kind: 'heartbeat_response', from: 'n1', to: 'n0', term: 1, round, session: 0, canLead: true })
    expect(node.reads).toEqual([{ context: 42, index: 1 }])
  })

  test('6.4: a read waits until the no-op of the term is committed', () => {
    const node = new ManualNode({ terms: [1, 1] })
    electByHand(node, ['n1'], false)
    node.take()
    node.step({ kind: 'read_index', context: 1 })
    expect(node.take('heartbeat')).toEqual([])
    node.persist()
    acknowledge(node, 'n1')
    const heartbeats = node.take('heartbeat')
    expect(heartbeats.map(({ round }) => round)).toEqual([1, 1])
    node.receive({ kind: 'heartbeat_response', from: 'n2', to: 'n0', term: 2, round: 1, session: 0, canLead: true })
    expect(node.reads).toEqual([{ context: 1, index: 3 }])
  })
})

const envelope = (from: string, term: number) => ({ from, to: 'n0', term })
const voteRequest = (from: string, term: number) => ({
  ...envelope(from, term),
  kind: 'vote_request' as const,
  lastIndex: 0,
  lastTerm: 0,
  transfer: false,
})
const preVoteRequest = (from: string, term: number) => ({
  ...envelope(from, term),
  kind: 'pre_vote_request' as const,
  lastIndex: 0,
  lastTerm: 0,
})
const voteGrant = (from: string, term: number) => ({
  ...envelope(from, term),
  kind: 'vote_response' as const,
  refusal: null,
})
const preVoteGrant = (from: string, term: number) => ({
  ...envelope(from, term),
  kind: 'pre_vote_response' as const,
  refusal: null,
})
const heartbeat = (from: string, term: number) => ({
  ...envelope(from, term),
  kind: 'heartbeat' as const,
  commit: 0,
  round: 0,
  lastIndex: 0,
  session: 0,
})
const append = (from: string, term: number) => ({
  ...envelope(from, term),
  kind: 'append' as const,
  prevIndex: 0,
  prevTerm: 0,
  entries: [],
  commit: 0,
})

/** n0 leads term 1 of three nodes, its no-op is committed. */
function leaderOf3(): ManualNode {
  const node = new ManualNode()
  electByHand(node, ['n1', 'n2'])
  return node
}
