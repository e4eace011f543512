/**
 * Planted bugs: one change of the compiled production code each, every one a promise that somebody might break while
 * meaning well. The simulator must catch all of them, or its silence about the real code is worth nothing.
 *
 * `find` must occur exactly once in `file` (below `dist/`); a change of the production code that moves it must move it
 * here, too. `quick` ones are caught within a few seeds and are tried again in every `npm test`.
 */
export interface Mutant extends Edit {
  readonly name: string
  /** Where one place is not enough, because another one would make up for it. */
  readonly also?: readonly Edit[]
  readonly quick?: true
  /** What the seeds lean towards, where plain ones need more than a thousand: an option of the simulator. */
  readonly under?: 'eager-trim'
}

export interface Edit {
  readonly file: string
  readonly find: string
  readonly replace: string
}

export const mutants: readonly Mutant[] = [
  {
    name: 'an append is acknowledged before its fsync',
    file: 'raft/follower.js',
    find: "sendAfterPersist({ kind: 'append_response'",
    replace: "sendNow({ kind: 'append_response'",
    quick: true,
  },
  {
    name: 'a duplicate append is acknowledged before the first copy is on disk',
    file: 'src/broker/replica/persister.js',
    find: 'if (!this.#running && !ready.mustSync)',
    replace: 'if (!ready.mustSync)',
    quick: true,
  },
  {
    name: 'a vote is not fsynced',
    file: 'store/hard-state.js',
    find: 'slotOf(record.sequence));\n            await this.#file.sync();',
    replace: 'slotOf(record.sequence));',
    quick: true,
  },
  {
    name: 'a vote leaves before it is on disk',
    file: 'raft/voter.js',
    find: "sendAfterPersist({ kind: 'vote_response'",
    replace: "sendNow({ kind: 'vote_response'",
    quick: true,
  },
  {
    name: 'votes do not compare the logs',
    file: 'raft/log.js',
    find: 'return lastTerm > this.#lastTerm || (lastTerm === this.#lastTerm && lastIndex >= this.#last);',
    replace: 'return true;',
    quick: true,
  },
  {
    name: 'votes compare the length of the logs, not the term of their last entries',
    file: 'raft/log.js',
    find: 'return lastTerm > this.#lastTerm || (lastTerm === this.#lastTerm && lastIndex >= this.#last);',
    replace: 'return lastIndex >= this.#last;',
  },
  {
    name: 'an entry of an old term is committed by counting its copies',
    file: 'raft/replication.js',
    find: 'if (index <= before || log.termAt(index) !== term)',
    replace: 'if (index <= before)',
  },
  {
    name: 'the leader counts its own copy before it is on disk',
    file: 'raft/replication.js',
    find: 'id === replica.id ? log.stable :',
    replace: 'id === replica.id ? log.lastIndex :',
    quick: true,
  },
  {
    name: 'a follower does not check the entry before an append',
    file: 'raft/follower.js',
    find: 'else if (ownTerm !== prevTerm) {',
    replace: 'else if (ownTerm === null) {',
  },
  {
    name: 'an fsync of a first copy counts for one that was cut and written again',
    file: 'raft/write-ledger.js',
    find: 'stable = Math.min(stable, write.truncateFrom - 1);',
    replace: '{ }',
  },
  {
    name: 'a replica applies beyond its own durable log',
    file: 'raft/log.js',
    find: 'to: Math.min(this.#commit, this.#stable) };',
    replace: 'to: this.#commit };',
  },
  {
    name: 'the durable mark runs ahead of its flush',
    file: 'store/log-files.js',
    find: 'durable.position ? null : this.#nextMark(durable);',
    replace: 'durable.position ? null : this.#nextMark({ ...durable, position: end });',
  },
  {
    name: 'truncation leaves old bytes behind the tail',
    file: 'store/log-files.js',
    find: 'await kept.writeZeros(keep.position, to);',
    replace: '{ }',
  },
  {
    name: 'the name of a new segment is not synced',
    file: 'store/log-files.js',
    find: 'if (this.#unsyncedDirectory) {',
    replace: 'if (this.#unsyncedDirectory && false) {',
    quick: true,
  },
  {
    name: 'the state store is trusted after a power loss',
    file: 'src/broker/replica/folder.js',
    find: 'const trusted = marker !== null',
    replace: 'const trusted = true || marker !== null',
    also: [
      {
        file: 'store/state-store.js',
        find: 'await this.#files.write(operations, { sync: true });',
        replace: 'await this.#files.write(operations, { sync: false });',
      },
    ],
  },
  {
    name: 'the sequence of a producer is ignored',
    file: 'src/broker/apply/producers.js',
    find: 'if (batch.baseSequence > last.baseSequence + last.recordCount - 1)',
    replace: 'if (batch.baseSequence >= 0)',
    quick: true,
  },
  {
    name: 'the sequence of a producer is not part of the state',
    file: 'src/broker/apply/producers.js',
    find: 'this.#isDirty[scope] = 1;',
    replace: '',
  },
  {
    name: 'an older commit moves the offset of a group back',
    file: 'src/broker/apply/offsets.js',
    find: 'const next = seek ? offset : Math.max(offset, current);',
    replace: 'const next = offset;',
  },
  {
    name: 'a send that is in flight when its time is up counts as not stored',
    file: 'src/client/producer/batch-sender.js',
    find: 'const tainted = this.#tainted || inFlight;',
    replace: 'const tainted = this.#tainted;',
  },
  {
    name: 'a retry gets a new sequence',
    file: 'src/client/producer/batch-sender.js',
    find: 'this.#failed.add(failed.address);',
    replace: 'this.#failed.add(failed.address); this.#bytes = this.#encode();',
    quick: true,
  },
  {
    name: 'a message that timed out stays in the batch',
    file: 'src/client/producer/batch-sender.js',
    find: 'if (isDefinite)',
    replace: 'if (isDefinite && false)',
  },
  {
    name: 'a late append cuts what came after it, committed or not',
    file: 'raft/log.js',
    find: 'index > this.guessedTo && this.termAt(index) !== term) {',
    replace: 'index > this.guessedTo) {',
    quick: true,
  },
  {
    name: 'one copy less than a majority commits',
    file: 'raft/quorum.js',
    find: 'return values[voters.length >> 1];',
    replace: 'return values[(voters.length - 1) >> 2];',
    quick: true,
  },
  {
    name: 'an old leader is still followed',
    file: 'raft/inbound.js',
    find: 'if (message.term < replica.term) {',
    replace: "if (message.term < replica.term && message.kind !== 'append') {",
  },
  {
    name: 'a leader that may have been paused answers reads without asking',
    file: 'raft/leader.js',
    find: 'leadership.reads.start(leadership.round + 1, replica.log.commit);',
    replace: 'leadership.reads.start(leadership.round, replica.log.commit); answerReads(replica, leadership.round);',
    also: [
      {
        file: 'raft/stall.js',
        find: 'if (lateMs <= replica.config.electionTimeoutMinMs / 2)',
        replace: 'if (lateMs < Number.POSITIVE_INFINITY)',
      },
    ],
  },
  {
    name: 'a follower answers a read by the commit that it has heard of',
    file: 'raft/reads.js',
    find: 'const onWire = reads.add(context, now + config.electionTimeoutMaxMs);',
    replace:
      'if (now > 0) { replica.outbox.answerReads([{ context, index: replica.log.commit }]); return null; } const onWire = reads.add(context, now + config.electionTimeoutMaxMs);',
  },
  {
    name: 'the token of a reader is ignored',
    file: 'src/broker/handler/pull-read.js',
    find: 'if (afterIndex > machine.appliedIndex) {',
    replace: 'if (afterIndex < 0) {',
    also: [
      {
        file: 'src/client/consumer/queue-reader.js',
        find: 'Math.max(this.#endReadAt, reply.appliedIndex)',
        replace: 'Math.max(this.#afterIndex, reply.appliedIndex)',
      },
    ],
  },
  {
    name: 'a replica counts as applied what lies in its log when a reader has a token',
    file: 'src/broker/handler/pull-read.js',
    find: 'if (afterIndex > machine.appliedIndex) {',
    replace: 'if (afterIndex > replica.log.lastIndex) {',
    also: [
      {
        file: 'src/broker/handler/pull-read.js',
        find: 'appliedIndex: machine.appliedIndex,',
        replace: 'appliedIndex: replica.log.lastIndex,',
      },
    ],
  },
  {
    name: 'a new topic is acknowledged before it is committed',
    file: 'src/broker/handler/topics.js',
    find: "return replyOf(await change(replica, { kind: 'create_topic', config }, context));",
    replace:
      "const made = change(replica, { kind: 'create_topic', config }, context); made.catch(() => {}); return replica.leading ? { topic: { topicId: replica.machine.appliedIndex, config } } : replyOf(await made);",
  },
  {
    name: 'new settings of a topic are not part of the state',
    file: 'src/broker/apply/topics.js',
    find: 'return this.#change({ topicId: existing.topicId, config });',
    replace: 'const changed = { topicId: existing.topicId, config }; this.#put(changed); return changed;',
  },
  {
    name: 'the ends of queues are told without asking whether the leader still leads',
    file: 'src/broker/handler/topics.js',
    find: 'await becomeCurrent(replica, waitOptions(context));\n        const topic = topicNamed(',
    replace:
      'if (!replica.leading) await becomeCurrent(replica, waitOptions(context));\n        const topic = topicNamed(',
  },
  {
    name: 'the checksum of a body is ignored',
    file: 'store/frame.js',
    find: 'return crc32(bytes.subarray(frameHeaderBytes, header.frameLength)) === header.bodyChecksum;',
    replace: 'return true;',
  },
  {
    name: 'a failed fsync is tried again',
    file: 'store/segment.js',
    find: 'return this.#file.sync();',
    replace: 'return this.#file.sync().catch(() => this.#file.sync());',
  },
  {
    name: 'the last entry before a restart is applied twice',
    file: 'src/broker/apply/state-machine.js',
    find: 'this.#appliedIndex = store.appliedIndex;',
    replace: 'this.#appliedIndex = Math.max(0, store.appliedIndex - 1);',
    quick: true,
  },
  {
    name: 'segments are given up before they are applied',
    file: 'src/broker/retention/choose-trim.js',
    find: ', appliedCount(facts))',
    replace: ')',
  },
  {
    name: 'replicas that are as far behind wait for each other',
    file: 'src/broker/replica/catch-up/planner.js',
    find: 'if (!giving && sources.some(',
    replace: 'if (!giving && sources.every(',
    under: 'eager-trim',
  },
  {
    name: 'a configuration is begun before an entry of the own term is committed',
    file: 'raft/leader.js',
    find: "if (!leadership?.isTermStarted)\n        return 'term_not_started';",
    replace: '',
    also: [
      {
        file: 'src/broker/membership/driver.js',
        find: 'if (!replica?.leading || !isBusy(replica))',
        replace: "if (replica?.role !== 'leader' || !isBusy(replica))",
      },
      {
        file: 'src/broker/membership/driver.js',
        find: 'this.#ports.replica() !== replica || !replica.leading)',
        replace: "this.#ports.replica() !== replica || replica.role !== 'leader')",
      },
    ],
  },
  {
    name: 'a second configuration is begun before the first is committed',
    file: 'raft/leader.js',
    find: "if (!log.configurations.isCommitted)\n        return 'change_under_way';",
    replace: '',
    also: [
      {
        file: 'src/broker/membership/driver.js',
        find: 'isCommitted: raft.configurationCommitted && replica.history.isCommitted,',
        replace: 'isCommitted: true,',
      },
    ],
  },
  {
    name: 'voters are exchanged without a joint configuration',
    file: 'raft/membership.js',
    find: 'return isSameSet(next.voters, current.voters);',
    replace: 'return true;',
    also: [
      {
        file: 'src/broker/membership/change.js',
        find: 'return { ...membership, voters, outgoing: membership.voters, learners };',
        replace: 'return { ...membership, voters, outgoing: [], learners };',
      },
    ],
  },
  {
    name: 'in a joint configuration the new voters alone decide',
    file: 'raft/quorum.js',
    find: 'return Math.min(majorityValue(configuration.voters, reachedBy), majorityValue(configuration.outgoing, reachedBy));',
    replace: 'return majorityValue(configuration.voters, reachedBy);',
  },
  {
    name: 'in a joint configuration the old voters alone decide',
    file: 'raft/quorum.js',
    find: 'return Math.min(majorityValue(configuration.voters, reachedBy), majorityValue(configuration.outgoing, reachedBy));',
    replace:
      'return majorityValue(configuration.outgoing.length > 0 ? configuration.outgoing : configuration.voters, reachedBy);',
  },
  {
    name: 'learners count for the majority',
    file: 'raft/quorum.js',
    find: 'majorityValue(configuration.voters, reachedBy)',
    replace: 'majorityValue([...configuration.voters, ...configuration.learners], reachedBy)',
  },
  {
    name: 'the log is trimmed before the state that follows it is on disk',
    file: 'src/broker/replica/trimmer.js',
    find: '|| storedIndex() < index)',
    replace: ')',
  },
  {
    name: 'a follower within its bound is not waited for',
    file: 'src/broker/retention/choose-trim.js',
    find: ', neededFrom(facts), ',
    replace: ', ',
  },
  {
    name: 'a copy takes the place of a log that has outgrown it',
    file: 'src/broker/replica/catch-up/planner.js',
    find: 'if (log.lastIndex >= own.lastIndex || !own.agrees)',
    replace: 'if (true)',
    under: 'eager-trim',
    also: [
      {
        file: 'src/broker/replica/catch-up/planner.js',
        find: 'if (copyEnd >= now.lastIndex)',
        replace: 'if (true)',
      },
    ],
  },
  {
    name: 'a node that knows of rot in its log votes',
    file: 'raft/voter.js',
    find: "if (replica.quarantine !== null)\n        return 'quarantined';\n    if (request.term < replica.term)\n        return 'old_term';\n    if (request.term > replica.term) {",
    replace: "if (request.term < replica.term)\n        return 'old_term';\n    if (request.term > replica.term) {",
  },
  {
    name: 'rot that a read or the scrub meets is told to nobody',
    file: 'store/log-health.js',
    find: 'this.#log.onRot(publicHole(hole));',
    replace: '',
  },
  {
    name: 'what is put back in place of rot is not synced',
    file: 'store/segment.js',
    find: 'await file.write(buffers, this.#offsetOf(position));\n            await file.sync();',
    replace: 'await file.write(buffers, this.#offsetOf(position));',
  },
  {
    name: 'a rotten entry counts as lost when nobody can be asked',
    file: 'src/broker/replica/repair/hole-filler.js',
    find: 'nodes.length > 0 && nodes.every(isGone)',
    replace: 'nodes.filter((node) => answers.has(node)).every(isGone)',
  },
  {
    name: 'what a failed sync left in place of rot is trusted',
    file: 'store/recovery.js',
    find: 'await rewriteDoubtful(options, state.scan, files);',
    replace: '',
  },
  {
    name: 'a node forgets in a restart that rot has cost it the end of its log',
    file: 'src/broker/replica/recovery.js',
    find: 'await records.saveQuarantine(record);',
    replace: '',
  },
  {
    name: 'a node whose rotten end was cut votes before it has reached a leader',
    file: 'src/broker/replica/recovery.js',
    find: '(before?.pending && before.untilLeaderReached) || isCut,',
    replace: 'false,',
  },
  {
    name: 'a wiped node is taken for the one it was',
    file: 'src/broker/replica/folder.js',
    find: 'disk: uuid(ports.random) }',
    replace: "disk: 'disk of '.concat(node) }",
  },
  {
    name: 'entries that stand right behind rot are not found again',
    file: 'store/log-health.js',
    find: 'this.#log.positions.addPlace(place);',
    replace: '',
  },
  {
    name: 'rows of a queue leave memory before the state store has them',
    file: 'src/broker/apply/queue-tail.js',
    find: 'else if (this.#first < this.#written)',
    replace: 'else if (this.#first < this.#end)',
  },
]
