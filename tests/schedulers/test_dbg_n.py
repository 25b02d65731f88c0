import sys
sys.path.insert(0,'/work/main/tests/schedulers')
from test_network_line_search import *
from test_network_line_search import _room
import pytest
def test_it():
    tune, steps = make(3, seed=2, kill=0.05)
    try:
        tune.run(3000)
    except AssertionError:
        t=tune.scheduler.teams[0]; m=t.method
        print(m._members, m.stopped, {k:(o.kind,o.number,o.warm_from,o.body.get('start')) for k,o in m._issued.items()}, m._holders.__dict__, m._state, m._training_step)
        for k,e in t.members.items(): print(k, e.issued,e.told,e.final,e.lost,e.log)
        print(t._present,t._working,t._queues,t._silent,t._complete, tune.kills)
        print([ (x.status, x.is_saving) for x in tune.trials])
        assert 0
