"""What is promised about faults, each promise as a function over simulated servers that raises.

The tests run them over the product as it is, and over the product with one bug seeded.
"""

from __future__ import annotations

from tests.faults.checks.load import (
    a_short_queue_narrows_nobody_else,
    balance,
    balance_is_good,
    deadlines_adapt,
    deadlines_of_the_first_requests,
    full_queue_is_no_storm,
    retries_are_never_the_storm,
    storm_of_others_is_waited_out,
)
from tests.faults.checks.rows import (
    a_message_too_large_is_halved,
    convictions_are_proven,
    hang_for_ever_is_convicted,
    hang_is_convicted,
    limits_stop_a_quarantine,
    poison_of_every_kind,
    sentences_are_the_same_in_every_run,
    suspects_are_sent_apart,
    table_is_right,
)
from tests.faults.checks.servers import (
    a_small_memory_narrows_nobody_else,
    broken_from_the_start_ends_at_once,
    contract_error_stops_the_first_time_only,
    crashes_from_outside_convict_nobody,
    endpoints_come_and_go,
    full_batches_that_fail_cost_no_row,
    hang_of_the_whole_server,
    outage_ends_after_its_time,
    outage_is_ridden_out,
    permanent_faults_stop,
    sick_server_convicts_nobody,
    stub_death_is_mended,
)
from tests.faults.checks.worlds import poison

CHECKS = (
    table_is_right,
    sentences_are_the_same_in_every_run,
    endpoints_come_and_go,
    deadlines_adapt,
    deadlines_of_the_first_requests,
    suspects_are_sent_apart,
    hang_is_convicted,
    hang_for_ever_is_convicted,
    convictions_are_proven,
    permanent_faults_stop,
    contract_error_stops_the_first_time_only,
    broken_from_the_start_ends_at_once,
    limits_stop_a_quarantine,
    a_message_too_large_is_halved,
    outage_ends_after_its_time,
    outage_is_ridden_out,
    stub_death_is_mended,
    sick_server_convicts_nobody,
    full_batches_that_fail_cost_no_row,
    a_small_memory_narrows_nobody_else,
    crashes_from_outside_convict_nobody,
    poison_of_every_kind,
    storm_of_others_is_waited_out,
    full_queue_is_no_storm,
    a_short_queue_narrows_nobody_else,
    retries_are_never_the_storm,
    hang_of_the_whole_server,
    balance_is_good,
)

__all__ = ["CHECKS", "balance", "poison"]
